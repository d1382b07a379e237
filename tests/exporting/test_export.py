"""Exports as a whole: their files and cards, what is refused before work begins, what is left after a failure."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from tests.exporting.conftest import NewFolder, order, write_adapter

from tunesmith.errors import MissingExtra, ModelError, UsageError
from tunesmith.exporting.export import Form, export
from tunesmith.models.address import Place
from tunesmith.records import Message


@pytest.fixture
def place(new_folder: NewFolder, tmp_path: Path) -> Place:
    """Return a tiny model and an adapter for it."""
    folder = new_folder()
    return Place(folder, write_adapter(folder, tmp_path / "tuned"))


def test_an_adapter_is_proved_in_pefts_layers(place: Place, tmp_path: Path) -> None:
    """The adapter goes out with its tokenizer, its base named as others find it; PEFT says what we say."""
    made = export(order(place.folder, "adapter", place=place), tmp_path / "out")
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "README.md"} <= set(
        made.files
    )
    config = json.loads(tmp_path.joinpath("out", "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "org/tiny"
    assert made.parity is not None
    assert made.parity.engine.startswith("peft ")
    assert made.parity.found.largest < 1e-3


def test_a_tuned_model_is_exported_with_its_adapter(place: Place, tmp_path: Path) -> None:
    """The GGUF file of an adapter's model holds other weights than its base's."""
    import gguf

    for name, here in (("tuned", place), ("base", Place(place.folder))):
        export(order(place.folder, "gguf", place=here), tmp_path / f"out-{name}")
    files = (gguf.GGUFReader(tmp_path / f"out-{name}" / "model.gguf") for name in ("tuned", "base"))
    tuned, base = ({each.name: each.data.tobytes() for each in file.tensors} for file in files)
    assert {name for name in tuned if tuned[name] != base[name]} == {
        f"blk.{block}.{layer}.weight" for block in (0, 1) for layer in ("attn_q", "ffn_down")
    }


def test_the_projects_own_questions_come_first(place: Place, tmp_path: Path) -> None:
    """Given conversations are replayed, and general questions fill them up to 32, one with an earlier turn."""
    asked = (Message("system", "Be brief."), Message("user", "Which function sorts?"))
    seen: list[tuple[int, int, str]] = []
    made = export(
        order(place.folder, "gguf", conversations=[asked] * 3),
        tmp_path / "out",
        on_progress=lambda done, total, note="": seen.append((done, total, note)),
    )
    assert made.parity is not None
    assert (made.parity.prompts, len(seen)) == (32, 32)
    assert seen[-1][:2] == (32, 32)


def test_without_proof_the_card_says_so(place: Place, tmp_path: Path) -> None:
    """An export that nobody proved says it plainly, in its record and on its card."""
    made = export(order(place.folder, "gguf", proved=False), tmp_path / "out")
    assert made.parity is None
    assert "**Not proved.**" in tmp_path.joinpath("out", "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("form", ["gguf", "ollama"])
def test_without_llama_cpp_nothing_is_exported(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Form
) -> None:
    """The missing wheel is an error with the install line, before any work; without proof it is not needed."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "tunesmith.exporting.engines.find_spec", lambda name: None if name == "xllamacpp" else real(name)
    )
    with pytest.raises(MissingExtra, match=r"\(--no-parity goes without\) needs the package") as refused:
        export(order(place.folder, form), tmp_path / "out")
    assert refused.value.hint is not None
    assert "pip install 'tunesmith[export]'" in refused.value.hint
    assert export(order(place.folder, form, proved=False), tmp_path / "out").parity is None


@pytest.mark.parametrize(
    ("form", "more", "why"),
    [
        ("merged", {"precision": "q8_0"}, "keeps the model's own precision"),
        ("adapter", {}, "tiny is a whole model: it has no adapter"),
    ],
)
def test_an_order_that_means_nothing_is_refused(
    new_folder: NewFolder, tmp_path: Path, form: Form, more: dict[str, Any], why: str
) -> None:
    """A precision for what is not quantised, and the adapter of a whole model, are refused with a way out."""
    with pytest.raises(UsageError, match=why):
        export(order(new_folder(), form, **more), tmp_path / "out")


def test_nothing_is_overwritten(new_folder: NewFolder, tmp_path: Path) -> None:
    """A folder that exists is left alone."""
    tmp_path.joinpath("out").mkdir()
    with pytest.raises(UsageError, match="exists already, and an export overwrites nothing"):
        export(order(new_folder(), "merged"), tmp_path / "out")


def test_a_failed_export_leaves_nothing(new_folder: NewFolder, tmp_path: Path) -> None:
    """Neither a folder nor a part of one is left of an export that is refused on its way."""
    folder = new_folder(rule="whole")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ModelError, match="name of this rule is not known"):
        export(order(folder, "gguf"), tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_ollama_gets_its_modelfile(place: Place, tmp_path: Path) -> None:
    """Beside the GGUF file lies a Modelfile that names it."""
    made = export(order(place.folder, "ollama", "q8_0"), tmp_path / "out")
    assert sorted(made.files) == ["Modelfile", "README.md", "model.gguf"]
    assert tmp_path.joinpath("out", "Modelfile").read_text(encoding="utf-8").startswith("FROM ./model.gguf\n")


def test_an_adapter_that_learned_beside_four_bits_stays_beside_them(
    new_folder: NewFolder, tmp_path: Path
) -> None:
    """Its note goes out with it, the proof sets it on the rounded base, and loaded again it says the same."""
    import torch

    from tunesmith.models.digest import NOTE, note_base
    from tunesmith.models.local import load_model

    folder = new_folder()
    adapter = write_adapter(folder, tmp_path / "tuned")
    note_base(adapter, folder, str(folder), quantised="nf4")
    made = export(order(folder, "adapter", place=Place(folder, adapter)), tmp_path / "out")
    assert made.parity is not None
    assert made.parity.found.largest < 1e-3
    assert NOTE in made.files
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        logits = [
            load_model(folder, dtype=torch.float32, adapter=each)(input_ids=ids).logits
            for each in (adapter, tmp_path / "out")
        ]
        (adapter / NOTE).unlink()
        whole = load_model(folder, dtype=torch.float32, adapter=adapter)(input_ids=ids).logits
    assert torch.equal(*logits)
    assert not torch.allclose(logits[0], whole, rtol=1e-2)
