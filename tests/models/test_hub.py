"""The hub, from a server that speaks its protocol: pinned, cached, offline after that; each fault in our words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.models.hub_server import CUT, SPOILT, Hub, Repository, serving

from tunesmith.errors import FetchError, ModelError
from tunesmith.models.address import load_chat, model_folder
from tunesmith.models.base import Sampling
from tunesmith.models.hub import HubModel, commit_of, hub_folder, runs_code
from tunesmith.records import Message

OLD, NEW = "a" * 40, "b" * 40
OWN_CODE = {
    "config.json": json.dumps(
        {
            "model_type": "mine",
            "auto_map": {"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.MineForCausalLM"},
        }
    ).encode(),
    "mine.py": b"""
from transformers import LlamaConfig, LlamaForCausalLM


class MineConfig(LlamaConfig):
    model_type = "mine"


class MineForCausalLM(LlamaForCausalLM):
    config_class = MineConfig
""",
}


@pytest.fixture(scope="session")
def files(chat_folder: Path) -> dict[str, bytes]:
    """Return the files of a tiny model, with what must not be fetched beside it."""
    whole = {path.name: path.read_bytes() for path in chat_folder.iterdir()}
    unwanted = {"pytorch_model.bin": b"pickle", "model.fp16.safetensors": b"again", "onnx/config.json": b"{}"}
    return whole | unwanted | {"run.py": b"raise SystemExit", "README.md": b"# Tiny"}


@pytest.fixture
def hub(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve the tiny model in two commits, to a client with an empty cache that does not wait between tries."""
    newer = files | {"README.md": b"# Tiny, newer"}
    tiny = Repository({OLD: files, NEW: newer}, {"main": OLD, "next/1": NEW})
    with serving({"org/tiny": tiny}) as running:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        yield running


def test_a_model_is_fetched_and_answers(hub: Hub, files: dict[str, bytes]) -> None:
    """An hf: address is a model that answers; only safetensors weights and its small files were fetched."""
    answers = load_chat("hf:org/tiny").reply([(Message("user", "hi"),)], Sampling(max_tokens=3))

    folder = model_folder("hf:org/tiny")
    assert len(answers) == 1
    assert {path.name for path in folder.iterdir()} == set(hub.fetched())
    assert set(hub.fetched()) == {
        name for name in files if name.endswith((".json", ".jinja")) and "/" not in name
    } | {"model.safetensors"}


def test_a_branch_stays_the_commit_that_it_was(hub: Hub) -> None:
    """What a branch was resolved to is noted, is the folder's commit, and does not change with the branch."""
    said: list[str] = []
    first = model_folder("hf:org/tiny@main", say=said.append)
    hub.repositories["org/tiny"].branches["main"] = NEW
    asked = len(hub.asked)

    assert model_folder("hf:org/tiny", say=said.append) == first
    assert len(hub.asked) == asked
    assert commit_of(first) == OLD
    assert said == [
        "Getting hf:org/tiny from the hub.",
        f"hf:org/tiny@main is commit {OLD}, here and from now on.",
    ]
    assert commit_of(model_folder("hf:org/tiny@next/1")) == NEW
    assert commit_of(model_folder(f"hf:org/tiny@{NEW}")) == NEW


def test_a_pinned_commit_that_was_deleted_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    """Without its files a pin still says which commit the branch is, though the branch has moved."""
    first = model_folder("hf:org/tiny")
    (first / "model.safetensors").unlink()
    hub.repositories["org/tiny"].branches["main"] = NEW

    assert model_folder("hf:org/tiny") == first
    assert (first / "model.safetensors").is_file()


def test_a_fetched_model_works_in_another_process_without_the_hub(hub: Hub, tmp_path: Path) -> None:
    """HF_ENDPOINT names the hub; once fetched, a model loads in a process that finds nothing there to ask."""
    fetch = "from tunesmith.models.address import model_folder; print(model_folder('hf:org/tiny').name)"
    load = "from tunesmith.models.address import load_chat; print(load_chat('hf:org/tiny').name)"
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub")}
    environment.pop("HF_HUB_OFFLINE", None)
    said = []
    for code, endpoint in ((fetch, hub.url), (load, "http://127.0.0.1:9")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment | {"HF_ENDPOINT": endpoint},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.strip())

    assert said == [OLD, "hf:org/tiny"]


@pytest.mark.parametrize(
    ("setting", "value", "why"),
    [("HF_HUB_OFFLINE", True, "OfflineModeIsEnabled"), ("ENDPOINT", "http://127.0.0.1:9", "ConnectError")],
)
def test_what_another_client_cached_is_used_where_there_is_no_hub(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, setting: str, value: object, why: str
) -> None:
    """Switched off or out of reach, a branch is what the hub's own cache has for it, and is pinned to that."""
    from huggingface_hub import snapshot_download

    cached = snapshot_download("org/tiny")
    monkeypatch.setattr(f"huggingface_hub.constants.{setting}", value)
    said: list[str] = []

    assert str(model_folder("hf:org/tiny", say=said.append)) == cached
    assert said[1:] == [f"The hub does not answer ({why}); the cached commit {OLD} is used."]
    assert str(model_folder("hf:org/tiny", say=said.append)) == cached
    assert len(said) == 2


def test_what_is_in_no_cache_is_named_where_the_hub_is_switched_off(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says that the client was told to stay offline."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(FetchError, match=r"hf:org/tiny is not in the cache, and .* offline"):
        model_folder("hf:org/tiny")


def test_a_sharded_model_is_fetched_whole(hub: Hub, files: dict[str, bytes]) -> None:
    """Weights in several files come with their index; one that is lost later is noticed and fetched again."""
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = json.dumps({"weight_map": {"a": names[0], "b": names[1]}}).encode()
    shards = {"config.json": b"{}", "model.safetensors.index.json": index, names[0]: b"one", names[1]: b"two"}
    hub.repositories["org/sharded"] = Repository({OLD: shards}, {"main": OLD})

    folder = hub_folder(HubModel("org/sharded"))
    (folder / names[1]).unlink()

    assert hub_folder(HubModel("org/sharded")) == folder
    assert (folder / names[1]).read_bytes() == b"two"


def test_an_adapter_on_the_hub_is_merged_into_its_base(hub: Hub, files: dict[str, bytes]) -> None:
    """A repository that holds an adapter is its base model, from the hub too, with the adapter's update."""
    import torch
    from safetensors.torch import save

    layer = "base_model.model.model.layers.0.mlp.down_proj"
    tensors = {f"{layer}.lora_A.weight": torch.ones(1, 48), f"{layer}.lora_B.weight": torch.ones(32, 1)}
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 2, "base_model_name_or_path": "org/tiny"}
    adapter = {"adapter_config.json": json.dumps(config).encode(), "adapter_model.safetensors": save(tensors)}
    hub.repositories["org/adapter"] = Repository({NEW: adapter}, {"main": NEW})

    assert load_chat("hf:org/adapter").name == "hf:org/adapter"
    with pytest.raises(ModelError, match="hf:org/adapter is an adapter"):
        model_folder("hf:org/adapter")


# --- what is refused


def test_repositories_without_safe_weights_are_refused(hub: Hub) -> None:
    """Pickles, GGUF files and nothing at all each get their own answer, and none of them is fetched."""
    for name, held in {"pickled": "pytorch_model.bin", "gguf": "tiny.gguf", "empty": "notes.txt"}.items():
        content = {"config.json": b"{}", held: b"weights"}
        hub.repositories[f"org/{name}"] = Repository({OLD: content}, {"main": OLD})
    said = []
    for name in ("pickled", "gguf", "empty"):
        with pytest.raises(ModelError) as caught:
            model_folder(f"hf:org/{name}")
        said.append((caught.value.message, caught.value.hint))

    convert = "Convert them with save_pretrained(..., safe_serialization=True)."
    assert said == [
        (
            "hf:org/pickled has no weights in safetensors format; "
            "pickled ones are refused, for they can run code.",
            convert,
        ),
        (
            "hf:org/gguf holds GGUF files and no safetensors weights.",
            "Download one of them and name it gguf:FILE.",
        ),
        ("hf:org/empty has no weights in safetensors format.", convert),
    ]
    assert hub.fetched() == []


@pytest.fixture
def own_code(hub: Hub, files: dict[str, bytes]) -> str:
    """Serve a model that loads only by the code beside it; return its name."""
    config = json.loads(files["config.json"]) | json.loads(OWN_CODE["config.json"])
    tokenizer = json.loads(files["tokenizer_config.json"]) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    content = (
        files
        | OWN_CODE
        | {
            "config.json": json.dumps(config).encode(),
            "tokenizer_config.json": json.dumps(tokenizer).encode(),
        }
    )
    hub.repositories["org/own"] = Repository({OLD: content}, {"main": OLD})
    return "org/own"


def test_code_is_refused_before_weights_are_fetched(hub: Hub, own_code: str) -> None:
    """A model that needs code is refused, with the address that would allow it; only its settings were fetched."""
    with pytest.raises(ModelError) as caught:
        model_folder(f"hf:{own_code}")

    assert caught.value.message == (
        "hf:org/own needs Python code from its repository to run, and that is refused unless you name it."
    )
    assert str(caught.value.hint).endswith(f"name its commit: hf:org/own@{OLD}+code.")
    assert hub.fetched() == ["config.json"]


def test_code_runs_where_its_commit_is_named(
    hub: Hub, own_code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With @COMMIT+code the model's own class is loaded; its folder elsewhere is still refused."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    address = f"hf:{own_code}@{OLD}+code"

    model = load_chat(address)
    folder = model_folder(address)

    assert type(model.model).__name__ == "MineForCausalLM"  # type: ignore[attr-defined]
    assert (runs_code(folder), commit_of(folder)) == (True, OLD)
    with pytest.raises(ModelError, match="needs Python code"):
        model_folder(f"hf:{own_code}@{OLD}")
    with pytest.raises(ModelError, match="needs Python code of its own to run"):
        model_folder(f"path:{(folder / 'config.json').resolve().parent.parent / 'snapshots' / OLD}")


def test_code_from_another_repository_is_refused_even_then(hub: Hub, own_code: str) -> None:
    """The commit that is named pins nothing of what lies elsewhere."""
    files = hub.repositories[own_code].commits[OLD]
    config = json.loads(files["config.json"]) | {"auto_map": {"AutoConfig": "org/else--mine.MineConfig"}}
    files["config.json"] = json.dumps(config).encode()

    with pytest.raises(ModelError, match="takes code from another repository, org/else"):
        model_folder(f"hf:{own_code}@{OLD}+code")


def test_code_under_a_branch_is_refused() -> None:
    """Code may change under a branch after it was read."""
    with pytest.raises(ModelError, match="lets code run that may change"):
        hub_folder(HubModel("org/tiny", "main", code=True))


# --- what can go wrong


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf:org/gone", r"hf:org/gone is not on the hub, or is private \(401 for .*\)"),
        ("hf:org/tiny@never", r"hf:org/tiny has no revision 'never'\."),
        (f"hf:org/tiny@{'c' * 40}", "hf:org/tiny has no revision 'ccc"),
    ],
)
def test_what_is_not_there_is_named(hub: Hub, address: str, message: str) -> None:
    """A wrong name and a wrong revision are told apart."""
    with pytest.raises(FetchError, match=message):
        model_folder(address)


def test_a_gated_model_wants_to_be_asked_for(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an account that is let in the error says where to ask; with its token the model is fetched."""
    hub.repositories["org/tiny"].gated = True

    with pytest.raises(
        FetchError, match=r"gated: its owner grants access by account\.\n  Ask for it at .*auth login"
    ):
        model_folder("hf:org/tiny")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert commit_of(model_folder("hf:org/tiny")) == OLD


@pytest.mark.parametrize(
    ("status", "hint"), [(429, "limits how much"), (500, "on the hub's side"), (503, "on the hub's side")]
)
@pytest.mark.parametrize("path", ["/revision/", "/store/"])
def test_a_hub_that_fails_is_named_by_its_status(hub: Hub, path: str, status: int, hint: str) -> None:
    """Too many requests and a broken hub get different advice, whether at the first question or at the weights."""
    hub.faults[path] = [status] * 20

    with pytest.raises(FetchError, match=rf"from the hub: it answered {status}\.\n.*{hint}"):
        model_folder("hf:org/tiny")


def test_a_file_that_the_hub_lists_and_lacks_is_named(hub: Hub) -> None:
    """A file that cannot be had says which."""
    hub.faults["/resolve/" + OLD + "/model.safetensors"] = [404] * 20

    with pytest.raises(FetchError, match=r"\(404 for .*model\.safetensors\)"):
        model_folder("hf:org/tiny")


def test_a_connection_that_breaks_is_taken_up_again(hub: Hub, files: dict[str, bytes]) -> None:
    """Cut in the middle, the download goes on from there, and the file is whole."""
    hub.faults["/store/"] = [CUT]

    folder = model_folder("hf:org/tiny")

    assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert sum("/store/" in line for line in hub.asked) == 2


def test_wrong_bytes_are_named_and_not_kept(hub: Hub, files: dict[str, bytes]) -> None:
    """Weights of the right size with another digest are refused; the next try gets them anew."""
    hub.faults["/store/"] = [SPOILT]

    with pytest.raises(
        FetchError, match=r"model\.safetensors of hf:org/tiny has wrong bytes: expected sha256 "
    ):
        model_folder("hf:org/tiny")
    assert (model_folder("hf:org/tiny") / "model.safetensors").read_bytes() == files["model.safetensors"]


def test_a_hub_that_is_not_there_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing listens, the error names the endpoint."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")

    with pytest.raises(
        FetchError, match=r"could not be fetched from the hub: .*\n.*http://127\.0\.0\.1:9 can be"
    ):
        model_folder("hf:org/tiny")


def test_a_name_that_leads_elsewhere_is_not_touched(tmp_path: Path) -> None:
    """A hub that lists a file outside the folder, with wrong bytes, does not get it deleted."""
    from types import SimpleNamespace

    from tunesmith.models import hub

    folder, mine = tmp_path / "snapshot", tmp_path / "notes.db"
    folder.mkdir()
    mine.write_text("mine", encoding="utf-8")
    lfs = SimpleNamespace(sha256="0" * 64)
    info = SimpleNamespace(
        siblings=[SimpleNamespace(rfilename=n, lfs=lfs) for n in (str(mine), "../notes.db")]
    )
    hub._check_bytes(hub.HubModel("org/tiny", "main", code=False), folder, info)  # type: ignore[arg-type]
    assert mine.read_text(encoding="utf-8") == "mine"
