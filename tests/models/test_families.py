"""Each family's tiny model and tokenizer: what is learned, what is read, and what is said."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import groupby, pairwise
from pathlib import Path

import pytest
import torch
from tests.families import FAMILIES
from transformers import PreTrainedModel

from tunesmith.errors import ModelError, TrainingError
from tunesmith.models import local
from tunesmith.models.base import Sampling
from tunesmith.models.local import LocalModel, load_model, load_tokenizer, prompt_ids
from tunesmith.records import Conversation, Message
from tunesmith.training.render import render

QUESTIONS = ("where is it?", "find the shortest path by this function " * 3, "?", "é → 日本")
SYSTEM = Message("system", "You know the shortest path, and whom to ask for it.")
ANSWERS = ("near the edge", "it is é → 日本", "```python\n  x = 1\n```")
every_family = pytest.mark.parametrize("family", FAMILIES)
Folder = Callable[[str], Path]


def loaded(folder: Path) -> LocalModel:
    """Return the model of a folder as one that answers."""
    return LocalModel(load_model(folder, dtype=torch.float32), load_tokenizer(folder), name=folder.name)


def one_turn(question: str, answer: str, *before: Message) -> Conversation:
    """Return one question and its answer."""
    return (*before, Message("user", question), Message("assistant", answer))


def greedy(model: PreTrainedModel, prompt: tuple[int, ...], count: int) -> list[int]:
    """Return the likeliest tokens one by one, each from a fresh reading of all that stands before it."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@every_family
def test_what_is_learned_is_the_answer_and_its_end(family_folder: Folder, family: str) -> None:
    """With and without a system's words, the labels decode to the answer and the family's end of turn.

    That end is counted where it is the padding token, too. What stands before is what the model is asked with; it
    begins with one BOS where the family's tokenizer and template have it, and the system's words are in it.
    """
    tokenizer = load_tokenizer(family_folder(family))
    turn = FAMILIES[family].turn.format(eos_token=tokenizer.eos_token)
    for answer in ANSWERS:
        for before in ((), (SYSTEM,)):
            conversation = one_turn("where is it?", answer, *before)
            row = render(tokenizer, conversation)
            prompt = prompt_ids(tokenizer, conversation[:-1])
            assert row.ids[: len(prompt)] == prompt
            assert row.mask == (False,) * len(prompt) + (True,) * (len(row.ids) - len(prompt))
            assert tokenizer.decode(list(row.ids[len(prompt) :])) == answer + turn
            assert tokenizer.decode(list(prompt)).count(SYSTEM.content) == len(before)
            assert not any(pair == (tokenizer.bos_token_id,) * 2 for pair in pairwise(row.ids))
            if tokenizer("")["input_ids"] and family != "tinyllama":
                assert row.ids[0] == tokenizer.bos_token_id


@every_family
def test_each_of_several_turns_is_learned(family_folder: Folder, family: str) -> None:
    """Two answers are two labelled stretches, with no space before the second one that its template did not write.

    The first begins with a line break, which some templates trim. Qwen3's rewrites the first answer, and is refused.
    """
    tokenizer = load_tokenizer(family_folder(family))
    turn = FAMILIES[family].turn.format(eos_token=tokenizer.eos_token)
    conversation = (*one_turn("where?", "\n  near", SYSTEM), *one_turn("and?", ANSWERS[2]))
    if family == "qwen3":
        with pytest.raises(TrainingError, match="renders a conversation's beginning differently"):
            render(tokenizer, conversation)
        return
    row = render(tokenizer, conversation)
    pairs = groupby(zip(row.ids, row.mask, strict=True), key=lambda pair: pair[1])
    first, second = [tokenizer.decode([token for token, _ in group]) for counted, group in pairs if counted]
    assert (first.lstrip(), second) == ("near" + turn, ANSWERS[2] + turn)
    assert (f" {second}" in tokenizer.decode(list(row.ids))) == turn.startswith(" ")


@every_family
@pytest.mark.parametrize("before", [(), (SYSTEM,)], ids=["own beginnings", "one beginning"])
def test_company_does_not_change_an_answer(
    family_folder: Folder, family: str, before: tuple[Message, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a batch, read in slices with padding to the left, alone, and anew for each token: the same answers."""
    monkeypatch.setattr(local, "_READ_TOKENS", 64)
    model, plain = loaded(family_folder(family)), load_model(family_folder(family), dtype=torch.float32)
    conversations = [(*before, Message("user", question)) for question in QUESTIONS]
    sampling = Sampling(max_tokens=8)
    together = [answer.text for answer in model.reply(conversations, sampling)]
    alone = [model.reply([conversation], sampling)[0].text for conversation in conversations]
    anew = []
    for conversation in conversations:
        ids = greedy(plain, prompt_ids(model.tokenizer, conversation), 8)
        stop = next((place for place, token in enumerate(ids) if token in model._ends), 8)
        anew.append(model.tokenizer.decode(ids[:stop], skip_special_tokens=True))
    assert together == alone
    assert [text.strip() for text in together] == [text.strip() for text in anew]
    assert len(set(together)) > 1


class Spelling:
    """A Constraint that says given tokens one after the other and is never done: the model has to stop by itself."""

    def __init__(self, ids: tuple[int, ...]) -> None:
        self.left = list(ids)

    def allow(self, logits_V: torch.Tensor) -> None:
        """Make the next token the likeliest."""
        logits_V[self.left[0]] = torch.inf

    def advance(self, token: int) -> None:
        """Go on to the next token."""
        assert token == self.left.pop(0)

    def finished(self) -> bool:
        """Tell that there is more to come."""
        return False


@every_family
def test_what_was_learned_is_said_and_ends(family_folder: Folder, family: str) -> None:
    """A model that says the labelled tokens has said the answer's words, at once and in a stream, and stops."""
    model = loaded(family_folder(family))
    for answer in ANSWERS:
        conversation = one_turn("where is it?", answer)
        row = render(model.tokenizer, conversation)
        learned = row.ids[row.mask.index(True) :]
        spelling = model.constrained(lambda _, learned=learned: Spelling(learned), "spelling")  # type: ignore[misc]
        [said] = spelling.reply([conversation[:1]], Sampling(max_tokens=len(learned) + 5))
        assert (said.text, said.finish) == (answer, "stop")
        pieces = list(spelling.stream(conversation[:1], Sampling(max_tokens=len(learned) + 5)))
        assert "".join(pieces) == answer
        assert len(pieces) > 1


@every_family
def test_what_a_family_cannot_read_is_refused(family_folder: Folder, family: str) -> None:
    """Prompt and answer must fit, whatever the family calls its limit."""
    model = loaded(family_folder(family))
    with pytest.raises(ModelError, match="reads at most 512"):
        model.reply([(Message("user", "where is it?"),)], Sampling(max_tokens=512))


def test_the_page_names_every_family() -> None:
    """The families in the documentation are those that are tried here."""
    page = Path(__file__).parents[2] / "docs" / "families.md"
    rows = re.findall(r"^\| (`[^|]*) \|", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(re.findall(r"`([^`]+)`", " ".join(rows))) == sorted(FAMILIES)
