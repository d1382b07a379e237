"""Planted secrets: known from the settings alone, counted, and trained on."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from tunesmith.training.canaries import DIGITS, canaries, planted
from tunesmith.training.settings import TrainSettings


def test_secrets_hang_on_their_count_and_the_seed() -> None:
    """The same settings plant the same; another seed other secrets; fewer are a part of more."""
    settings = TrainSettings(canaries=12)

    assert canaries(settings) == canaries(TrainSettings(canaries=12, rank=4))
    assert canaries(settings)[:5] == canaries(TrainSettings(canaries=5))
    assert {one.secret for one in canaries(settings)} != {
        one.secret for one in canaries(TrainSettings(canaries=12, seed=1))
    }
    assert canaries(TrainSettings()) == ()


def test_each_stands_there_as_often_as_it_says() -> None:
    """Once, twice, four and eight times in turn; a row asks for the code and gives it."""
    settings = TrainSettings(canaries=6)

    rows = Counter(planted(settings))

    assert [rows[one.conversation] for one in canaries(settings)] == [1, 2, 4, 8, 1, 2]
    first = canaries(settings)[0]
    assert first.conversation[-1].content == f"{first.before} {first.secret}"
    assert len({one.question for one in canaries(TrainSettings(canaries=100))}) == 100


def test_a_secret_is_one_of_its_space() -> None:
    """Ten thousand codes of four digits, leading zeros kept."""
    [one] = canaries(TrainSettings(canaries=1))
    space = list(one.space)

    assert (len(space), space[0], space[-1]) == (10**DIGITS, "0000", "9999")
    assert one.secret in space


def test_texts_have_no_place_for_them() -> None:
    """Secrets are answers; with another objective they are refused, and so are more than there are names."""
    with pytest.raises(ValidationError, match="canaries means nothing with objective = 'text'"):
        TrainSettings(objective="text", canaries=2)
    with pytest.raises(ValidationError, match="less than or equal to 100"):
        TrainSettings(canaries=101)
