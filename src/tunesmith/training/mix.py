"""What the language model is trained on: which examples, and with which retrieved entries in the prompt.

Facts belong to retrieval, behaviour to weights: most prompts show retrieved entries, the right one among wrong ones
(RAFT: Zhang et al. 2024, arXiv:2403.10131). In a share of them (`doubt`) it stands where the retriever puts it for
questions that it was not tuned on, sometimes nowhere; in the others first, since a small model overrules the order more
often than it should (docs/log.md).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import zip_longest

from tunesmith.models.base import Retriever
from tunesmith.models.wrappers import with_passages
from tunesmith.records import Conversation, Example, Message, Passage
from tunesmith.training.settings import TrainSettings


def select(examples: Sequence[Example], count: int | None, seed: int) -> tuple[Example, ...]:
    """Return up to `count` examples, spread evenly over entries, people's questions before those made by rule."""
    shuffled = sorted(examples, key=lambda example: example.id)
    random.Random(seed).shuffle(shuffled)
    by_entry: dict[str | None, list[Example]] = defaultdict(list)
    for example in sorted(shuffled, key=lambda example: example.origin.startswith("rule:")):
        by_entry[example.entry].append(example)
    rounds = [example for each in zip_longest(*by_entry.values()) for example in each if example is not None]
    # A stable sort: first all rounds of people's questions, then the rules'.
    rounds.sort(key=lambda example: example.origin.startswith("rule:"))
    return tuple(rounds[:count])


def ranks_of(examples: Sequence[Example], retriever: Retriever, count: int) -> tuple[int | None, ...]:
    """Return for each question where, from 0, the first acceptable entry stands among `count` hits; None: nowhere."""
    found = retriever.search([example.question for example in examples], count)
    return tuple(
        next((rank for rank, hit in enumerate(hits) if hit.id in example.acceptable), None)
        for example, hits in zip(examples, found, strict=True)
    )


def conversations(
    examples: Sequence[Example],
    retriever: Retriever,
    passage_of: Callable[[str], Passage],
    ranks: Sequence[int | None],
    *,
    system: str,
    settings: TrainSettings,
    in_words: str = "",
) -> tuple[Conversation, ...]:
    """Return each example as a conversation; a share of them (`retrieved_share`) shows retrieved entries.

    The wrong entries are the retriever's own; the right one stands first, or in a share of the prompts (`doubt`) at a
    rank drawn from `ranks`, if there are any. `in_words` is the system prompt of examples whose answer is no call.
    """
    chance = random.Random(f"mix:{settings.seed}")
    found = retriever.search([example.question for example in examples], settings.passages * 2)
    result = []
    for example, hits in zip(examples, found, strict=True):
        conversation: Conversation = (
            Message("system", (system if example.entry is not None else in_words or system)),
            *example.messages,
            Message("user", example.question),
        )
        if chance.random() < settings.retrieved_share and example.entry is not None:
            doubtful = chance.random() < settings.doubt
            rank = chance.choice(ranks) if doubtful and ranks else 0
            shown = _arranged(example, hits, passage_of(example.entry), rank, settings.passages)
            conversation = with_passages(conversation, shown)
        result.append((*conversation, Message("assistant", example.answer)))
    return tuple(result)


def _arranged(
    example: Example, hits: Sequence[Passage], right: Passage, rank: int | None, count: int
) -> tuple[Passage, ...]:
    wrong = [hit for hit in hits if hit.id not in example.acceptable]
    if rank is None:
        return tuple(wrong[:count])
    return (*wrong[:rank], right, *wrong[rank : count - 1])
