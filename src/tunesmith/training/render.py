"""Turn a conversation into token ids and a loss mask, the same way for training and serving.

The mask covers exactly the assistant's words and its end-of-turn token, found by rendering the conversation with
the model's own chat template up to each assistant turn, so it holds for any template whose rendering of a prefix is
a prefix of its rendering of the whole; templates for which that is not so are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.errors import TrainingError
from tunesmith.models.local import end_of_turn_ids, prompt_ids
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


def render(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> Rendered:
    """Return ids and loss mask of a conversation that ends with an assistant turn.

    Raises TrainingError if there is no assistant turn, or if the chat template rewrites earlier turns.
    """
    whole = _whole_ids(tokenizer, conversation)
    mask = [False] * len(whole)
    turns = [i for i, message in enumerate(conversation) if message.role == "assistant"]
    if not turns:
        raise TrainingError("a conversation without an assistant turn teaches nothing")
    end_ids = end_of_turn_ids(tokenizer)
    end_of_last = 0
    for turn in turns:
        before = prompt_ids(tokenizer, conversation[:turn])
        if tuple(whole[: len(before)]) != before:
            raise TrainingError(
                "this model's chat template renders a conversation's beginning differently once it goes on",
                hint="Train on single turns, or give the tokenizer a template that only appends.",
            )
        stop = _end_of_turn(whole, len(before), end_ids)
        mask[len(before) : stop] = [True] * (stop - len(before))
        end_of_last = stop
    # What a template writes after the last end-of-turn token (a line break, say) is never generated: cut it.
    return Rendered(tuple(whole[:end_of_last]), tuple(mask[:end_of_last]))


def _whole_ids(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> list[int]:
    text = tokenizer.apply_chat_template(
        [{"role": message.role, "content": message.content} for message in conversation], tokenize=False
    )
    ids: Any = tokenizer(str(text), add_special_tokens=False)["input_ids"]
    return list(ids)


def _end_of_turn(ids: Sequence[int], start: int, end_ids: frozenset[int]) -> int:
    for position in range(start, len(ids)):
        if ids[position] in end_ids:
            return position + 1
    raise TrainingError(
        "the chat template writes no end-of-turn token after the assistant's words, so the model would never stop",
        hint="Set the tokenizer's eos_token to the token that its chat template writes after a turn.",
    )
