"""Every family by every method: load, pre-flight, overfit, save, load, merge, generate, stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from tests.families import FAMILIES
from transformers import PreTrainedTokenizerBase

from tunesmith.errors import TrainingError
from tunesmith.models.address import load_chat
from tunesmith.models.base import Sampling
from tunesmith.models.local import LocalModel, load_model, load_tokenizer, prompt_ids
from tunesmith.models.template import save_template
from tunesmith.records import Conversation, Message
from tunesmith.training.train import TrainSettings, train

#: Each method's name, and the settings that choose it.
METHODS: Final[dict[str, dict[str, Any]]] = {"lora": {}}
#: Families that training refuses, and why.
NOT_YET: Final = {
    "cerebras-gpt": "GPT-2's layers are Conv1D, and adapters are put on torch.nn.Linear only",
    "gemma-2": "its logits are capped after the output projection, and the loss is taken before",
}
_PLACES: Final = ("node", "edge", "cycle", "tree", "soup", "flow", "graph", "path")
EXAMPLES: Final[tuple[Conversation, ...]] = tuple(
    (Message("user", f"where is the {place}?"), Message("assistant", f"near {other} {number}"))
    for number, (place, other) in enumerate(zip(_PLACES, reversed(_PLACES), strict=True))
)
QUESTIONS: Final = [example[:1] for example in EXAMPLES]


def logits(model: Any, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """Return the logits after every token of the first question."""
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor([prompt_ids(tokenizer, QUESTIONS[0])])).logits
    return found.float()


def cases() -> Iterator[Any]:
    """Yield each family with each method; those that fail are marked with the reason, and must fail."""
    for method in METHODS:
        for family in FAMILIES:
            reason = NOT_YET.get(family)
            marks = (
                []
                if reason is None
                else [pytest.mark.xfail(reason=reason, raises=TrainingError, strict=True)]
            )
            yield pytest.param(family, method, marks=marks, id=f"{family}-{method}")


@pytest.mark.parametrize(("family", "method"), cases())
def test_eight_examples_are_learned_saved_loaded_merged_and_said(
    family_folder: Callable[[str], Path], tmp_path: Path, family: str, method: str
) -> None:
    """What was trained, what is loaded with its adapter and what is saved as merged have the same logits.

    The answers are learned by heart, said word by word, and each ends with its end of turn.
    """
    folder, out = family_folder(family), tmp_path / "adapter"
    model, tokenizer = load_model(folder, dtype=torch.float32), load_tokenizer(folder)
    settings = TrainSettings(
        base=f"path:{folder}",
        epochs=60,
        batch_size=8,
        learning_rate=0.01,
        evaluate_every=60,
        **METHODS[method],
    )
    before = logits(model, tokenizer)
    run = train(model, tokenizer, EXAMPLES, EXAMPLES, settings, out=out, work=tmp_path / "work")
    save_template(tokenizer, out)
    assert run.best_valid_loss < 0.1
    trained = logits(model, tokenizer)
    assert not torch.allclose(trained, before, atol=0.1)

    tokenizer = load_tokenizer(folder, adapter=out)
    merged = load_model(folder, dtype=torch.float32, adapter=out)
    torch.testing.assert_close(logits(merged, tokenizer), trained, rtol=1e-3, atol=2e-3)
    merged.save_pretrained(tmp_path / "merged")
    tokenizer.save_pretrained(tmp_path / "merged")
    whole = load_model(tmp_path / "merged", dtype=torch.float32)
    tokenizer = load_tokenizer(tmp_path / "merged")
    torch.testing.assert_close(logits(whole, tokenizer), trained, rtol=1e-3, atol=2e-3)

    for tuned in (LocalModel(whole, tokenizer, name=family), load_chat(f"path:{out}")):
        answers = tuned.reply(QUESTIONS, Sampling(max_tokens=32))
        assert [answer.text for answer in answers] == [example[1].content for example in EXAMPLES]
        assert {answer.finish for answer in answers} == {"stop"}
