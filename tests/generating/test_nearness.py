"""The gates of small models: questions far from what is quoted, answers that the piece does not lead to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from tunesmith.generating.gates import Pair, Turn
from tunesmith.generating.nearness import relevance, support
from tunesmith.generating.rounds import Checking
from tunesmith.models.likelihood import Likelihood
from tunesmith.models.local import load_model, load_tokenizer, prompt_ids, text_ids
from tunesmith.records import Message


class ByFirstLetter:
    """An encoder for which texts of one first letter are the same, and others have nothing in common."""

    name = "letters"

    def embed(self, texts: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """Return a vector of length one for each text."""
        return np.eye(26, dtype=np.float32)[[ord(text[0].lower()) - ord("a") for text in texts]]


def _row(question: str, *quotes: str, style: str = "factual") -> Checking:
    return Checking(Pair(style, (Turn(question, "An answer."),), quotes), "The source.")  # type: ignore[arg-type]


def test_a_question_must_be_near_one_of_its_quotes() -> None:
    """One is enough; silence quotes nothing, and passes."""
    rows = [
        _row("when?", "when it rains", "always"),
        _row("when?", "always"),
        _row("when?", style="not in the material"),
    ]

    assert [each.state for each in relevance(rows, ByFirstLetter())] == ["accepted", "rejected", "accepted"]
    assert relevance([], ByFirstLetter()) == []


@pytest.fixture(scope="module")
def likelihood(toolbox_folder: Path) -> Likelihood:
    """Return the tests' tiny chat model."""
    folder = toolbox_folder / "models" / "chat"
    return Likelihood(load_model(folder, dtype=torch.float32).eval(), load_tokenizer(folder))


def test_the_mean_is_that_of_the_answers_tokens(likelihood: Likelihood) -> None:
    """Computed in one pass, it is what the whole model says token by token."""
    prompt, answer = (Message("user", "Which tool sorts words?"),), "It sorts words."
    before, said = (
        list(prompt_ids(likelihood.tokenizer, prompt)),
        list(text_ids(likelihood.tokenizer, answer)),
    )
    with torch.inference_mode():
        logits = likelihood.model(torch.tensor([before + said])).logits[0].log_softmax(-1)
    expected = sum(float(logits[len(before) - 1 + place, token]) for place, token in enumerate(said)) / len(
        said
    )

    assert likelihood.means([prompt], [answer]) == [pytest.approx(expected, rel=1e-4)]
    assert likelihood.means([prompt], [""]) == [0.0]


def test_an_unlikely_answer_is_not_supported(likelihood: Likelihood) -> None:
    """The threshold decides; silence passes whatever it is."""
    rows = [_row("when?", "when it rains"), _row("when?", style="not in the material")]
    [mean] = likelihood.means(
        [(Message("user", "The source.\n\nAnswer from the text alone.\n\nQuestion: when?"),)], ["An answer."]
    )

    assert [each.state for each in support(rows, likelihood, mean + 0.1)] == ["rejected", "accepted"]
    assert [each.state for each in support(rows, likelihood, mean - 0.1)] == ["accepted", "accepted"]
