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
from tunesmith.models.quotes import in_passage, quoting
from tunesmith.models.wrappers import with_passages
from tunesmith.records import Conversation, Example, Message, Passage
from tunesmith.training.settings import TrainSettings


def select(examples: Sequence[Example], count: int | None, seed: int) -> tuple[Example, ...]:
    """Return up to `count` examples, evenly from all entries and documents, people's before those made by rule."""
    shuffled = sorted(examples, key=lambda example: example.id)
    random.Random(seed).shuffle(shuffled)
    by_group: dict[str, list[Example]] = defaultdict(list)
    for example in sorted(shuffled, key=lambda example: example.origin.startswith("rule:")):
        by_group[example.group].append(example)
    rounds = [example for each in zip_longest(*by_group.values()) for example in each if example is not None]
    # A stable sort: first all rounds of people's questions, then the rules'.
    rounds.sort(key=lambda example: example.origin.startswith("rule:"))
    return tuple(rounds[:count])


def acceptable(example: Example) -> tuple[str, ...]:
    """Return the entries that answer an example."""
    return example.acceptable or ((example.entry,) if example.entry is not None else ())


def ranks_of(
    examples: Sequence[Example],
    retriever: Retriever,
    count: int,
    right_of: Callable[[Example], Sequence[str]] = acceptable,
) -> tuple[int | None, ...]:
    """Return for each question where, from 0, the first right passage stands among `count` hits; None: nowhere."""
    found = retriever.search([example.question for example in examples], count)
    return tuple(
        next((rank for rank, hit in enumerate(hits) if hit.id in right_of(example)), None)
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
    right_of: Callable[[Example], Sequence[str]] = acceptable,
) -> tuple[Conversation, ...]:
    """Return each example as a conversation; a share of them (`retrieved_share`) shows retrieved entries.

    The wrong entries are the retriever's own; the right one stands first, or in a share of the prompts (`doubt`) at a
    rank drawn from `ranks`, if there are any. `in_words` is the system prompt of examples whose answer is no call, and
    `right_of` gives the ids of what answers an example, the best first: without any nothing is shown. With `quotes` an
    answer in words begins with what the shown passages say of its evidence, as RAFT's do.
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
        right, answer = right_of(example), example.answer
        if chance.random() < settings.retrieved_share and right:
            doubtful = chance.random() < settings.doubt
            rank = chance.choice(ranks) if doubtful and ranks else 0
            best = passage_of(example.entry or right[0])
            shown = _arranged([hit for hit in hits if hit.id not in right], best, rank, settings.passages)
            conversation = with_passages(conversation, shown)
            if settings.quotes and example.entry is None:
                answer = quoting(_quotes(example, shown), answer)
        result.append((*conversation, Message("assistant", answer)))
    return tuple(result)


def _quotes(example: Example, shown: Sequence[Passage]) -> tuple[str, ...]:
    """Return the example's evidence as far as a passage that is shown says it: nothing else can be quoted."""
    quotes = dict.fromkeys(piece.quote.strip() for piece in example.evidence)
    return tuple(quote for quote in quotes if any(in_passage(quote, passage.text) for passage in shown))


def _arranged(wrong: Sequence[Passage], right: Passage, rank: int | None, count: int) -> tuple[Passage, ...]:
    if rank is None:
        return tuple(wrong[:count])
    return (*wrong[:rank], right, *wrong[rank : count - 1])
