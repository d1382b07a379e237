"""Turn a conversation into token ids and a loss mask, the same way for training and serving.

The mask covers exactly the assistant's words and its end-of-turn token, in turns of weight 1, found by rendering the
conversation with the model's own chat template up to each assistant turn, so it holds for any template whose rendering
of a prefix is a prefix of its rendering of the whole; templates for which that is not so are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.errors import RowError
from tunesmith.models.local import answer_starts, end_of_turn_ids, stretches, text_ids
from tunesmith.models.template import chat_text
from tunesmith.records import Conversation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Rendered:
    """Token ids of a conversation, and for each whether the loss counts it (same length)."""

    ids: tuple[int, ...]
    mask: tuple[bool, ...]

    @property
    def labelled(self) -> int:
        """How many tokens the loss counts."""
        return sum(self.mask[1:])


@dataclass(frozen=True, slots=True)
class Pair:
    """A preferred answer and a rejected one to the same prompt, each with it.

    `margin` is by how much likelier the untrained model finds the preferred one, in nats.
    """

    chosen: Rendered
    rejected: Rendered
    margin: float = 0.0


def render(
    tokenizer: PreTrainedTokenizerBase, conversation: Conversation, *, ends: frozenset[int] | None = None
) -> Rendered:
    """Return ids and loss mask of a conversation that ends with an assistant turn.

    Up to each assistant turn the ids are those of `prompt_ids`. `ends` are the tokenizer's `end_of_turn_ids`, which
    take as long to find as a conversation to render: who renders many finds them once. Raises TrainingError if the
    last turn is not the assistant's, if its words hold an end-of-turn token, or if the chat template rewrites earlier
    turns.
    """
    end_ids = end_of_turn_ids(tokenizer) if ends is None else ends
    turns = _check(tokenizer, conversation, end_ids)
    text = chat_text(tokenizer, conversation)
    starts = answer_starts(tokenizer, conversation, text)
    if len(starts) < len(turns):
        raise _rewritten()
    prompt, *answers = stretches(tokenizer, text, starts)
    ids, mask, end_of_last = list(prompt), [False] * len(prompt), 0
    for turn, answer in zip(turns, answers, strict=True):
        said = _end_of_turn(answer, end_ids)
        end_of_last = len(ids) + said
        ids += answer
        mask += [bool(conversation[turn].weight)] * said + [False] * (len(answer) - said)
    # What a template writes after the last end-of-turn token (a line break, say) is never generated: cut it.
    row = Rendered(tuple(ids[:end_of_last]), tuple(mask[:end_of_last]))
    if len(turns) > 1:
        # A template may drop an earlier answer, or its reasoning, and leave every prompt as it was.
        earlier = render(tokenizer, conversation[: turns[-2] + 1], ends=end_ids)
        if row.ids[: len(earlier.ids)] != earlier.ids:
            raise _rewritten()
    return row


def _rewritten() -> RowError:
    return RowError(
        "this model's chat template renders a conversation's beginning differently once it goes on",
        rule="template",
        hint="Train on single turns, or give the tokenizer a template that only appends.",
    )


def _check(
    tokenizer: PreTrainedTokenizerBase, conversation: Conversation, end_ids: frozenset[int]
) -> list[int]:
    """Return which turns are the assistant's, at least one."""
    turns = [i for i, message in enumerate(conversation) if message.role == "assistant"]
    if not turns:
        raise RowError(
            "a conversation without an assistant turn teaches nothing",
            rule="turns",
            hint="Give it an answer, or take it out.",
        )
    if conversation[0].role == "assistant" or conversation[-1].role != "assistant":
        raise RowError(
            f"a conversation goes from {conversation[0].role} to {conversation[-1].role}",
            rule="turns",
            hint="To be learned from, it begins with a question and ends with the assistant's answer.",
        )
    for words in (conversation[turn].content for turn in turns):
        inside = end_ids.intersection(text_ids(tokenizer, words))
        if inside:
            raise RowError(
                f"the assistant's words hold the end-of-turn token {tokenizer.decode(min(inside))}: {words[:60]!r}",
                rule="words",
                hint="Take it out of the answer: the chat template writes it after the answer.",
            )
    return turns


def _end_of_turn(ids: Sequence[int], end_ids: frozenset[int]) -> int:
    """Return how many ids there are up to the first end of turn, that one counted."""
    for position, token in enumerate(ids):
        if token in end_ids:
            return position + 1
    raise RowError(
        "the chat template writes no end-of-turn token after the assistant's words, so the model would never stop",
        rule="end of turn",
        hint="Set the tokenizer's eos_token to the token that its chat template writes after a turn.",
    )


def render_text(tokenizer: PreTrainedTokenizerBase, text: str, longest: int) -> list[Rendered]:
    """Return a raw text as pieces of at most `longest` tokens, all of them labelled, the end of the text too.

    For continued pre-training. Each piece begins with the tokenizer's BOS token if it has one, so that the first word
    is predicted as well.
    """
    ids = text_ids(tokenizer, text)
    if tokenizer.eos_token_id is not None:
        ids = (*ids, int(tokenizer.eos_token_id))
    first = () if tokenizer.bos_token_id is None else (int(tokenizer.bos_token_id),)
    size = longest - len(first)
    pieces = [ids[start : start + size] for start in range(0, len(ids), size)]
    rows = [Rendered((*first, *piece), (True,) * (len(first) + len(piece))) for piece in pieces]
    # A piece of one token has nothing to predict.
    return [row for row in rows if row.labelled]
