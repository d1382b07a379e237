"""Contenders with an adapter that was trained elsewhere, told from their names."""

from __future__ import annotations

import pytest

from tunesmith.errors import AddressError
from tunesmith.evaluating.names import (
    PARTS,
    adapter_of,
    check_adapter,
    check_name,
    is_tuned,
    retriever_of,
    with_adapters,
)
from tunesmith.evaluating.verdict import cost_order


@pytest.mark.parametrize(
    ("name", "adapter", "tuned"),
    [
        ("base", None, False),
        ("few_shot+retrieval", None, False),
        ("tuned+retrieval", None, True),
        ("mine", "mine", True),
        ("tuned_retrieval+mine", "mine", True),
        ("base+tools", None, False),
    ],
)
def test_a_name_tells_whether_its_model_was_trained(name: str, adapter: str | None, tuned: bool) -> None:
    """Here, elsewhere or not at all."""
    assert (adapter_of(name), is_tuned(name)) == (adapter, tuned)


def test_an_adapter_costs_what_our_own_tuning_does() -> None:
    """It stands behind all that needs no trained model, as `tuned` does."""
    assert cost_order("mine+retrieval") == cost_order("tuned+retrieval")
    assert cost_order("tuned_retrieval+constrained") < cost_order("mine")


def test_an_adapter_is_added_where_no_contender_names_it() -> None:
    """Before the others, alone and with the tuned retriever, so that the last that retrieves stays the same."""
    assert with_adapters(("base", "mine+few_shot"), ("mine", "other")) == (
        "other",
        "other+tuned_retrieval",
        "base",
        "mine+few_shot",
    )


@pytest.mark.parametrize("name", [*PARTS, "Mine", "my-own", "1st", ""])
def test_a_name_that_would_be_mistaken_is_refused(name: str) -> None:
    """An adapter's name can be a part of a contender's, and is none already."""
    with pytest.raises(AddressError, match="cannot be an adapter's name"):
        check_adapter(name)


@pytest.mark.parametrize(
    ("name", "retriever"),
    [
        ("base", None),
        ("tuned+bm25+reranked", "bm25"),
        ("tools", "retrieval"),
        ("tools+tuned_retrieval", "tuned_retrieval"),
    ],
)
def test_a_name_tells_which_retriever_is_asked(name: str, retriever: str | None) -> None:
    """Tools are found by the plain one where nothing else is said."""
    assert retriever_of(name) == retriever


def test_two_adapters_do_not_go_together() -> None:
    """A contender has one kind of weights."""
    with pytest.raises(AddressError, match=r"'mine\+other' asks for mine and other at once"):
        check_name("mine+other", ("mine", "other"))
