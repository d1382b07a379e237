"""Every family by every method: load, pre-flight, overfit, save, load, merge, generate, stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from tests.families import FAMILIES
from transformers import PreTrainedTokenizerBase

from tunesmith.models.address import load_chat
from tunesmith.models.base import Sampling
from tunesmith.models.local import LocalModel, load_model, load_tokenizer, prompt_ids
from tunesmith.records import Conversation, Message
from tunesmith.training.settings import TrainSettings
from tunesmith.training.train import train

#: Each method's name, and the settings that choose it.
METHODS: Final[dict[str, dict[str, Any]]] = {
    "lora": {},
    "rslora": {"alpha": 8},
    "dora": {},
    "qlora": {},
    "full": {"learning_rate": 0.003},
}
#: Passes over the examples, where a family needs more: half of SmolLM3's layers do not see where a word stands.
# How many passes suffice hangs on the processor too: what a product of bf16 or of 4 bits is rounded to differs.
EPOCHS: Final = {"smollm3": 200, "starcoder2": 200}
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
    """Yield each family with each method."""
    for method in METHODS:
        for family in FAMILIES:
            yield pytest.param(family, method, id=f"{family}-{method}")


@pytest.mark.parametrize(("family", "method"), cases())
def test_eight_examples_are_learned_saved_loaded_merged_and_said(
    family_folder: Callable[[str], Path], tmp_path: Path, family: str, method: str
) -> None:
    """What was trained, what is loaded with its adapter and what is saved as merged have the same logits.

    The answers are learned by heart, said word by word, and each ends with its end of turn.
    """
    folder, out = family_folder(family), tmp_path / "adapter"
    model = load_model(folder, dtype=torch.float32, four_bit=method == "qlora")
    tokenizer = load_tokenizer(folder)
    given = {
        "base": f"path:{folder}",
        "epochs": EPOCHS.get(family, 100),
        "batch_size": 8,
        "learning_rate": 0.006,
        "evaluate_every": 25,
    }
    settings = TrainSettings.model_validate(given | {"method": method} | METHODS[method])
    before = logits(model, tokenizer)
    run = train(model, tokenizer, EXAMPLES, EXAMPLES, settings, out=out, work=tmp_path / "work")
    assert run.best_valid_loss < 0.2
    trained = logits(model, tokenizer)
    assert not torch.allclose(trained, before, atol=0.1)

    base, adapter = (out, None) if method == "full" else (folder, out)
    tokenizer = load_tokenizer(base, adapter=adapter)
    merged = load_model(base, dtype=torch.float32, adapter=adapter)
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
