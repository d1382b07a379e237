"""OpenAI's chat JSONL: what is refused and where, how tokens are counted, and what they cost."""

from __future__ import annotations

import builtins
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.errors import DatasetError, MissingExtra
from tunesmith.records import Conversation, Message
from tunesmith.training import openai_chat
from tunesmith.training.openai_chat import (
    OPENAI,
    TokenCount,
    bill_of,
    chat_jsonl,
    check_chat,
    count_rows,
    count_tokens,
    encoding_of,
    price_of,
    priced,
)

PAIR: Conversation = (Message("user", "hello world"), Message("assistant", "hello"))


def test_all_problems_are_named_with_their_lines() -> None:
    """Too few, an empty turn, a last turn that is not the assistant's, no turn: one error says all of it."""
    rows: list[Conversation] = [PAIR, (Message("user", " "), PAIR[1]), PAIR[:1], ()]
    with pytest.raises(DatasetError) as caught:
        check_chat(rows, "the training file")
    assert caught.value.message == (
        "the training file holds 4 examples; a service wants at least 10; "
        "the training file, line 2: message 1, the user's, is empty; "
        "the training file, line 3: the last turn is the user's, not the assistant's; "
        "the training file, line 4: there is no message"
    )


def test_a_stranger_among_the_roles_is_named() -> None:
    """A role that the wire does not know is no turn."""
    stranger: Any = "teacher"
    with pytest.raises(DatasetError, match="message 1 has the role 'teacher', not system, user or assistant"):
        check_chat([(Message(stranger, "x"), PAIR[1])] * 10, "the training file")


def test_many_problems_are_counted() -> None:
    """Twenty are shown and the others counted."""
    with pytest.raises(DatasetError, match="line 20: there is no message; and 5 more"):
        check_chat([()] * 25, "the training file")


def test_a_file_can_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file over the service's limit is refused here, before the upload."""
    monkeypatch.setattr(openai_chat, "LARGEST", 100)
    with pytest.raises(DatasetError, match=r"holds [\d,]+ bytes; a service takes at most 100"):
        check_chat([PAIR] * 10, "the training file")


def test_ten_sound_examples_pass() -> None:
    """The fewest that are taken are taken."""
    check_chat([PAIR] * 10, "the training file")


@given(st.lists(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text()))))
def test_lines_give_the_conversations_back(rows: list[list[tuple[str, str]]]) -> None:
    """Whatever the words are, each conversation is one line, and reads as it was."""
    conversations = [tuple(Message(role, text) for role, text in row) for row in rows]  # type: ignore[arg-type]
    lines = chat_jsonl(conversations).decode().split("\n")[:-1]
    assert [[(one["role"], one["content"]) for one in json.loads(line)["messages"]] for line in lines] == rows


def test_tokens_are_counted_by_the_guide() -> None:
    """3 for each message with its role's and its words' tokens, and 3 at the end; a bill ends with 1."""
    # user 1 + hello world 2 + 3, assistant 1 + hello 1 + 3, and 3.
    assert count_tokens([PAIR] * 2, "gpt-3.5-turbo") == TokenCount("cl100k_base", 2, 28, 24, 14)


def test_words_that_look_like_special_tokens_are_words() -> None:
    """<|endoftext|> in somebody's question is counted as its letters."""
    [plain, special] = [
        count_tokens([(Message("user", text), PAIR[1])], "gpt-4o").tokens for text in ("", "<|endoftext|>")
    ]
    assert special - plain > 1


@pytest.mark.parametrize(
    ("model", "encoding", "dollars"),
    [
        ("gpt-4.1-mini", "o200k_base", 5.0),
        ("gpt-4.1-mini-2025-04-14", "o200k_base", 5.0),
        ("ft:gpt-4o-mini-2024-07-18:org:suffix:id", "o200k_base", 3.0),
        ("gpt-3.5-turbo-0125", "cl100k_base", 8.0),
        ("llama-3", "cl100k_base", None),
    ],
)
def test_a_models_family_says_how_its_tokens_are_cut_and_what_they_cost(
    model: str, encoding: str, dollars: float | None
) -> None:
    """Dates and tuned names lead to the model that they are of; of others the price is not known."""
    assert encoding_of(model) == encoding
    assert price_of(1_000_000, model, OPENAI) == dollars


def test_the_known_bills_come_out() -> None:
    """25,173 tokens at 8 dollars a million are $0.20, and 266,469 are $2.13."""
    said = [priced(price_of(tokens, "gpt-3.5-turbo", OPENAI)) for tokens in (25_173, 266_469)]
    assert said == ["$0.20 by the price list of 2025", "$2.13 by the price list of 2025"]


def test_another_service_has_its_own_prices() -> None:
    """The list is OpenAI's, whatever a model is called elsewhere."""
    assert price_of(1000, "gpt-4.1", "http://localhost:8000/v1") is None
    assert priced(None) == "price unknown"


def test_without_the_tokenizer_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error shows what to install."""
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name == "bpe_openai":
            raise ModuleNotFoundError(name)
        return real(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "bpe_openai", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    openai_chat._counter.cache_clear()
    with pytest.raises(MissingExtra, match=r"pip install 'tunesmith\[hosted\]'"):
        count_tokens([PAIR], "gpt-4o")


def test_rows_of_files_are_counted_as_they_stand(tmp_path: Path) -> None:
    """A name costs one more than its tokens, a weight nothing, tools and calls their JSON; long ones are cut."""
    plain: dict[str, Any] = {
        "messages": [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "so."}]
    }
    named = {"messages": [plain["messages"][0] | {"name": "Ann"}, plain["messages"][1] | {"weight": 0}]}

    def tokens(row: Any) -> int:
        return count_rows([row], "gpt-3.5-turbo").tokens

    assert (
        tokens(plain)
        == count_tokens([(Message("user", "why?"), Message("assistant", "so."))], "gpt-4").tokens
    )
    assert tokens(named) == tokens(plain) + 1 + 1
    assert tokens(plain | {"tools": [{"type": "function"}]}) > tokens(plain)
    long = {"messages": [*plain["messages"], {"role": "assistant", "content": "word " * 20_000}]}
    found = count_rows([plain, long], "gpt-3.5-turbo-1106")
    assert (found.over, found.tokens) == (1, tokens(plain) + 16_385)
    assert found.longest > 20_000
    path = tmp_path / "a.jsonl"
    path.write_text("\ufeff" + f"{json.dumps(plain)}\n\n{json.dumps(named)}\n", encoding="utf-8")
    bill = bill_of(path, "gpt-3.5-turbo", 3)
    whole = tokens(plain) + tokens(named)
    assert (bill.tokens, bill.billed) == (3 * whole, 3 * (whole - 2 * 2))
    assert bill.dollars == pytest.approx(3 * whole * 8e-6)
    assert bill_of(path, "other", 1).dollars is None


def test_the_known_sets_come_to_their_known_bills() -> None:
    """69 examples of 8,391 tokens and 506 of 88,823, three epochs each: what was estimated, and what was billed."""
    shortest = count_rows([{"messages": [{"role": "user", "content": ""}]}], "gpt-3.5-turbo").tokens
    for examples, tokens, estimated, billed in ((69, 8_391, 25_173, 24_759), (506, 88_823, 266_469, 263_433)):
        words, more = divmod(tokens - shortest * examples, examples)
        counts = [words + more, *[words] * (examples - 1)]
        rows = [{"messages": [{"role": "user", "content": " a" * count}]} for count in counts]
        found = count_rows(rows, "gpt-3.5-turbo")
        assert (found.examples, found.tokens) == (examples, tokens)
        assert (3 * found.tokens, 3 * found.billed) == (estimated, billed)
