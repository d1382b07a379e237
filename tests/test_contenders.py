"""Names of contenders and the models they mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.contenders import Workshop
from tunesmith.errors import AddressError
from tunesmith.evaluating.names import PARTS, USUAL, check_name
from tunesmith.models.base import ChatModel, Sampling
from tunesmith.models.local import LocalModel
from tunesmith.project import Project
from tunesmith.records import Answer, Message


class Toolbox(Protocol):
    """What the fixture `toolbox` gives."""

    project: Project


@dataclass(frozen=True)
class Built:
    """What a name was put together from: the order in which parts were first needed, and the model's name."""

    loaded: tuple[str, ...]
    name: str


QUESTION = (Message("system", "You help."), Message("user", "keep a number within bounds"))


def reply(project: Project, name: str) -> Answer:
    """Let a contender answer."""
    [answer] = project.contender(name).reply([QUESTION], Sampling(max_tokens=8))
    return answer


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("base", "path:models/chat"),
        ("few_shot", "path:models/chat+few_shot"),
        ("retrieval", "path:models/chat+retrieval"),
        ("tuned", "path:models/chat tuned"),
        ("tuned+tuned_retrieval", "path:models/chat tuned+retrieval"),
        ("few_shot+tuned+tuned_retrieval", "path:models/chat tuned+retrieval+few_shot"),
        ("tuned+constrained", "tuned+constrained"),
    ],
)
def test_a_name_says_what_is_put_around_which_model(toolbox: Toolbox, name: str, named: str) -> None:
    """The weights are inside, then retrieval, then the example turns."""
    assert toolbox.project.contender(name).name == named


def test_the_order_of_parts_does_not_matter(toolbox: Toolbox) -> None:
    """However the parts stand, the answer is the same."""
    names = ["+".join(parts) for parts in permutations(("tuned", "retrieval", "few_shot"))]
    answers = {reply(toolbox.project, name).text for name in names}
    assert len(answers) == 1


def test_each_part_changes_what_is_read(toolbox: Toolbox) -> None:
    """Retrieval names its passages, few shots make the prompt longer, other weights say something else."""
    plain, shots, found, tuned = (
        reply(toolbox.project, name) for name in ("base", "few_shot", "retrieval", "tuned")
    )
    assert plain.prompt_tokens == tuned.prompt_tokens < min(shots.prompt_tokens, found.prompt_tokens)
    assert plain.retrieved == shots.retrieved == tuned.retrieved == ()
    assert len(found.retrieved) == 3
    assert plain.text != tuned.text


def test_retrievers_rank_by_their_own_encoder(toolbox: Toolbox) -> None:
    """`retrieval` and `tuned_retrieval` are two retrievers."""
    questions = [
        (Message("user", text),) for text in ("next in the circle", "how far?", "no doubles", "smooth it")
    ]
    plain, tuned = (
        [
            answer.retrieved
            for answer in toolbox.project.contender(name).reply(questions, Sampling(max_tokens=1))
        ]
        for name in ("retrieval", "tuned_retrieval")
    )
    assert plain != tuned


class Loads:
    """Counts how often each part of a workshop is loaded; the parts are the project's own."""

    def __init__(self, project: Project) -> None:
        self.loaded: list[str] = []
        self.project = project

    def part(self, name: str) -> Any:
        """Return a function that notes the load and returns a contender's model."""

        def load() -> Any:
            self.loaded.append(name)
            return self.project.contender(name)

        return load


def test_parts_are_loaded_when_first_needed_and_once(toolbox: Toolbox) -> None:
    """Building the base model's contenders loads no adapter and no retriever; building again loads nothing."""
    loads = Loads(toolbox.project)

    def retriever() -> Any:
        loads.loaded.append("retriever")
        return None

    shop = Workshop(
        load_base=loads.part("base"),
        load_tuned=loads.part("tuned"),
        load_retriever=retriever,
        load_tuned_retriever=retriever,
        load_constraint=lambda model: lambda conversation: None,  # type: ignore[arg-type, return-value]
        shots=(),
        passages=3,
    )
    shop.build("base")
    shop.build("few_shot")
    assert loads.loaded == ["base"]
    shop.build("retrieval")
    shop.build("tuned+retrieval")
    shop.build("tuned+retrieval+constrained")
    assert loads.loaded == ["base", "retriever", "tuned"]


def test_every_usual_contender_is_a_chat_model(toolbox: Toolbox) -> None:
    """Each usual name can be built; all obey the protocol, the plain ones are local models."""
    models = {name: toolbox.project.contender(name) for name in USUAL}
    assert all(isinstance(model, ChatModel) for model in models.values())
    assert [name for name, model in models.items() if isinstance(model, LocalModel)] == ["base", "tuned"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("base+tuend", "'base+tuend' names no contender: 'tuend' is not understood there"),
        ("base+base", "'base+base' names no contender: 'base' is not understood there"),
        ("base+tuned", "'base+tuned' asks for base and tuned at once"),
        (
            "retrieval+tuned_retrieval",
            "'retrieval+tuned_retrieval' asks for retrieval and tuned_retrieval at once",
        ),
    ],
)
def test_a_name_that_means_nothing_is_refused(toolbox: Toolbox, name: str, message: str) -> None:
    """Unknown, doubled and contradicting parts are named."""
    with pytest.raises(AddressError) as caught:
        toolbox.project.contender(name)
    assert caught.value.message == message


def test_an_adapter_from_elsewhere_is_a_kind_of_weights(toolbox: Toolbox) -> None:
    """The train stage's own adapter, registered under a name, answers as `tuned` does, and goes with other parts."""
    inputs = toolbox.project.store.list()
    [trained] = [one for one in inputs if one.stage == "train"]
    config = replace(toolbox.project.config, adapters={"mine": f"path:{trained.file('adapter')}"})
    project = Project(config)

    assert reply(project, "mine").text == reply(project, "tuned").text != reply(project, "base").text
    found = reply(project, "mine+tuned_retrieval")
    assert found.text == reply(project, "tuned+tuned_retrieval").text
    assert len(found.retrieved) == 3


@given(st.lists(st.sampled_from(PARTS), min_size=1))
def test_a_name_is_taken_if_its_parts_are_known_differ_and_agree(parts: list[str]) -> None:
    """Of the known parts any set goes that has one kind of weights and one kind of retrieval."""
    fine = len(set(parts)) == len(parts) and not (
        {"base", "tuned"} <= set(parts) or {"retrieval", "tuned_retrieval"} <= set(parts)
    )
    try:
        assert check_name("+".join(parts)) == set(parts)
        assert fine
    except AddressError:
        assert not fine
