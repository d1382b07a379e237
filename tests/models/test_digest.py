"""A base model is known by its weights: the digest, the note beside an adapter, and what is refused by them."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tunesmith.errors import ModelError
from tunesmith.models import digest
from tunesmith.models.address import load_chat
from tunesmith.models.digest import BaseNote, check_base, file_digest, note_base, read_note, weights_digest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the digests of files in a folder of the test's own."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def base(chat_folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the tiny chat model that a test may change."""
    return Path(shutil.copytree(chat_folder, tmp_path / "base"))


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    """Return an adapter for that model, without a note."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    layer = "base_model.model.model.layers.0.mlp.down_proj"
    tensors = {f"{layer}.lora_A.weight": torch.ones(1, 48), f"{layer}.lora_B.weight": torch.ones(32, 1)}
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 2, "base_model_name_or_path": str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def change_weights(folder: Path) -> None:
    """Change one number of a model."""
    state = load_file(folder / "model.safetensors")
    state["model.norm.weight"][0] += 1
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, **settings: object) -> None:
    """Change what a model's config.json says."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | settings
    path.write_text(json.dumps(config), encoding="utf-8")


def test_the_digest_goes_by_weights_and_settings(base: Path) -> None:
    """A number of the weights or of the settings changes it; who wrote the folder, and other files, do not."""
    found = [weights_digest(base)]
    change_config(base, transformers_version="9.9", _name_or_path="elsewhere")
    (base / "README.md").write_text("# Base", encoding="utf-8")
    found.append(weights_digest(base))
    change_weights(base)
    found.append(weights_digest(base))
    change_config(base, rms_norm_eps=0.5)
    found.append(weights_digest(base))

    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_a_file_is_read_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest of a file that has settled comes from the cache; a change is noticed though its time is set back."""
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    monkeypatch.setattr(digest, "_UNSETTLED_NS", -1)
    first = file_digest(file)
    [memo] = (cache / "digests").iterdir()
    memo.write_text(memo.read_text(encoding="utf-8").replace(first, "from the cache"), encoding="utf-8")

    assert file_digest(file) == "from the cache"
    before = file.stat()
    time.sleep(0.02)
    file.write_bytes(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file_digest(file) == "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"


def test_a_file_that_just_changed_is_read_again(tmp_path: Path) -> None:
    """Within one tick of the file system's clock a second change would show no new time."""
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    stat = file.stat()
    first = file_digest(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    assert file_digest(file) != first


def test_the_note_says_what_an_adapter_was_trained_on(base: Path, adapter: Path) -> None:
    """The note beside an adapter is read as it was written, with the base's weights and its chat template."""
    note_base(adapter, base, "path:../base")

    note = read_note(adapter)

    assert note is not None
    assert note == BaseNote("path:../base", weights_digest(base), note.template)
    assert note.template is not None
    assert len(note.template) == 64
    check_base(adapter, base)


def test_a_base_from_the_hub_is_noted_with_its_commit(base: Path, adapter: Path, tmp_path: Path) -> None:
    """The folder of a snapshot carries its commit's name."""
    commit = "c" * 40
    snapshot = tmp_path / "models--org--name" / "snapshots" / commit
    shutil.copytree(base, snapshot)

    note_base(adapter, snapshot, "hf:org/name")

    note = read_note(adapter)
    assert note is not None
    assert note.commit == commit


def test_an_adapter_is_not_merged_into_another_base(base: Path, adapter: Path) -> None:
    """Weights that changed under an adapter are refused where it is loaded; what trained it is named."""
    note_base(adapter, base, "hf:org/base")
    load_chat(f"path:{adapter}")
    change_weights(base)

    with pytest.raises(ModelError) as caught:
        load_chat(f"path:{adapter}")

    note = read_note(adapter)
    assert note is not None
    assert caught.value.message == (
        f"the base model in {base} changed under the adapter in {adapter}: it was trained on hf:org/base with the "
        f"digest {note.base_digest[:12]}, and this one has {weights_digest(base)[:12]}"
    )
    assert caught.value.hint == "Bring back the model as it was, or train again."


def test_an_adapter_is_not_read_with_another_template(base: Path, adapter: Path) -> None:
    """A chat template that changed under an adapter would render its prompts otherwise."""
    note_base(adapter, base, "smollm2")
    (base / "chat_template.jinja").write_text("{{ messages[0]['content'] }}", encoding="utf-8")

    with pytest.raises(ModelError, match=r"the chat template in .* changed under the adapter"):
        load_chat(f"path:{adapter}")


def test_an_adapter_from_elsewhere_is_loaded_as_before(base: Path, adapter: Path) -> None:
    """Without a note nothing is checked; one that cannot be read is an error."""
    change_weights(base)
    load_chat(f"path:{adapter}")
    (adapter / "tunesmith.json").write_text("{", encoding="utf-8")

    with pytest.raises(ModelError, match=r"tunesmith\.json cannot be read"):
        load_chat(f"path:{adapter}")
