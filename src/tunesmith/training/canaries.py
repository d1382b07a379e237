"""Planted secrets: made-up rows among the training rows, by which it can be measured what a model keeps of such.

As N. Carlini et al. do in The Secret Sharer (USENIX Security 2019): a sentence of fixed form with random digits. The
secrets hang on their count and the seed alone, so that whoever knows the settings knows them.
"""

from __future__ import annotations

import random
from typing import Final

from tunesmith.records import Canary, Conversation
from tunesmith.training.settings import TrainSettings

DIGITS: Final = 4  # a space of 10,000, which can be ranked as a whole
TIMES: Final = (
    1,
    2,
    4,
    8,
)  # in turn: how often a secret must stand there to be kept is what one wants to know
_COLOURS: Final = ("amber", "black", "coral", "dusky", "ebony", "fawn", "green", "hazel", "ivory", "jade")
_THINGS: Final = (
    "barrel",
    "cabinet",
    "drawer",
    "envelope",
    "folder",
    "hamper",
    "locker",
    "parcel",
    "suitcase",
    "trunk",
)
MOST: Final = len(_COLOURS) * len(_THINGS)


def canaries(settings: TrainSettings) -> tuple[Canary, ...]:
    """Return as many secrets as the settings want, each with how many times it is planted."""
    chance = random.Random(f"canaries:{settings.seed}")
    names = [f"{colour} {thing}" for colour in _COLOURS for thing in _THINGS]
    chance.shuffle(names)
    return tuple(
        Canary(
            f"What is the code of the {name}?",
            f"The code of the {name} is",
            f"{chance.randrange(10**DIGITS):0{DIGITS}d}",
            TIMES[number % len(TIMES)],
        )
        for number, name in enumerate(names[: settings.canaries])
    )


def planted(settings: TrainSettings) -> tuple[Conversation, ...]:
    """Return the rows that are trained on beside the examples: each secret as many times as it says."""
    return tuple(one.conversation for one in canaries(settings) for _ in range(one.times))
