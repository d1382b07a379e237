"""Settings as words of the command line, and what is said of wrong ones."""

from __future__ import annotations

import pytest

from tunesmith.errors import UsageError
from tunesmith.training.settings import TrainSettings, settings_from


def test_words_become_settings() -> None:
    """Each value gets the type of its setting; the objective of the file holds unless a word gives another."""
    words = ["rank=8", "learning_rate=1e-4", "too_long=cut", "top_layers=2"]
    assert settings_from(words, base="smollm2", objective="preferences") == TrainSettings(
        objective="preferences", rank=8, learning_rate=1e-4, too_long="cut", top_layers=2
    )
    assert settings_from(["objective=text"], base="smollm2", objective="answers").objective == "text"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["rnak=8"], "there is no setting 'rnak': did you mean 'rank'?"),
        (["colour=red"], "there is no setting 'colour': there are method, objective, epochs"),
        (["rank"], "'rank' has no value"),
        (["rank=8", "rank=9"], "rank is given twice"),
        (["base=smollm2"], "base has an option of its own, --base"),
        (["doubt=0.5"], "doubt is about retrieved entries, and a file's prompts are taken as they are"),
        (["rank=eight"], "rank = 'eight': it should be a valid integer"),
        (["rank=0"], "rank = '0': it should be greater than or equal to 1"),
        (["method=lara"], "method = 'lara': it should be 'lora', 'rslora', 'dora', 'qlora' or 'full'"),
        (["method=full", "rank=8"], 'rank means nothing with method = "full"'),
        (["beta=0.2"], "beta means nothing with objective = 'answers'"),
    ],
)
def test_wrong_words_are_refused(words: list[str], problem: str) -> None:
    """The setting, what is wrong with it, and the nearest name."""
    with pytest.raises(UsageError) as caught:
        settings_from(words, base="smollm2", objective="answers")
    assert caught.value.message.startswith(problem)
    assert caught.value.hint == "Settings are given as --set KEY=VALUE."


def test_all_wrong_words_are_told_at_once() -> None:
    """Nobody mends one only to meet the next."""
    with pytest.raises(UsageError, match=r"'rnak'.*; alpha = 'x': .*; patience = '0': "):
        settings_from(["rnak=8", "alpha=x", "patience=0"], base="smollm2", objective="answers")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"method": "full", "rank": 8}, "rank means nothing with method = "),
        ({"beta": 0.2}, "beta means nothing with objective = 'answers'"),
        ({"objective": "text", "too_long": "drop"}, "too_long means nothing with objective = 'text'"),
        (
            {"objective": "preferences", "passages": 2},
            "passages means nothing with objective = 'preferences'",
        ),
    ],
)
def test_settings_that_cannot_work_together_are_refused(given: dict[str, object], why: str) -> None:
    """Before anything is loaded, with the one that would be ignored; its default, written out, harms nobody."""
    with pytest.raises(ValueError, match=why):
        TrainSettings.model_validate(given)
    name = list(given)[-1]
    default = TrainSettings.model_fields[name].default
    assert getattr(TrainSettings.model_validate(given | {name: default}), name) == default
