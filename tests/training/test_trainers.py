"""What is handed over, read by Axolotl, LitGPT, TRL and Unsloth themselves, in an environment made for it.

Axolotl's and Unsloth's training need a GPU: of them the parser, the masks and the signatures are checked.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import PreTrainedTokenizerBase

from tunesmith.models.adapter import merge_adapter
from tunesmith.models.local import load_model
from tunesmith.records import Conversation
from tunesmith.training.handover import hand_over
from tunesmith.training.render import render
from tunesmith.training.settings import TrainSettings

pytestmark = pytest.mark.slow

REQUIREMENTS = Path(__file__).with_name("trainers.txt")
UNSLOTH = ("unsloth==2026.10.9", "unsloth-zoo==2026.10.9")
SETTINGS = {
    "epochs": 1,
    "batch_size": 4,
    "learning_rate": 0.003,
    "rank": 4,
    "alpha": 8.0,
    "top_layers": 1,
    "warmup_share": 0.4,
    "clip": 0.5,
    "max_length": 200,
    "evaluate_every": 2,
    "patience": 2,
    "seed": 5,
}


@pytest.fixture(scope="module")
def trainers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment with the trainers, which finds all else (torch, transformers) in this one."""
    home = tmp_path_factory.mktemp("trainers") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    shared = home / "lib" / version / "site-packages" / "shared.pth"
    shared.write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")
    run(home, home, "python", "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(REQUIREMENTS))
    return home


def environment(home: Path) -> dict[str, str]:
    """Return what processes of the trainers see: their own packages, no hub, no GPU, nobody to report to."""
    return {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(home / "huggingface"),
        "CUDA_VISIBLE_DEVICES": "",
        "AXOLOTL_DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "1",
    }


def run(home: Path, folder: Path, *command: str) -> str:
    """Run a command in a folder and return the last line that it prints."""
    done = subprocess.run(
        command, cwd=folder, env=environment(home), capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout.strip().rpartition("\n")[2]


def ask(home: Path, folder: Path, code: str) -> Any:
    """Run Python code that prints a JSON document last, and return that."""
    return json.loads(run(home, folder, "python", "-c", code))


def handed(
    target: str, places: tuple[Conversation, ...], base: Path, out: Path, **settings: Any
) -> tuple[Path, TrainSettings]:
    """Hand ten conversations over, two of them for validation too."""
    told = TrainSettings(**{**SETTINGS, "base": f"path:{base}", **settings})
    return hand_over(target, places, places[:2], told, base=base, out=out), told


# --- Axolotl


AXOLOTL_CONFIG = """
import json, yaml
from axolotl.utils.config import validate_config
from axolotl.utils.dict import DictDefault
from axolotl.utils.schemas.config import AxolotlInputConfig

written = yaml.safe_load(open("axolotl.yaml"))
machine = {"bf16": True, "fp8": False, "n_gpu": 1, "compute_capability": "sm_90"}
read = validate_config(DictDefault(written), capabilities=machine, env_capabilities={"torch_version": "2.13.0"})
unknown = sorted(set(written) - set(AxolotlInputConfig.model_fields))
print(json.dumps({"read": read.to_dict(), "unknown": unknown}, default=str))
"""
AXOLOTL_ROWS = """
import json, yaml
from axolotl.prompt_strategies.chat_template import load
from axolotl.utils.dict import DictDefault
from transformers import AutoTokenizer

config = DictDefault(yaml.safe_load(open("axolotl.yaml")))
strategy = load(AutoTokenizer.from_pretrained(config.base_model), config, config.datasets[0])
rows = [strategy.tokenize_prompt(json.loads(line)) for line in open("train.jsonl")]
print(json.dumps([[row["input_ids"], row["labels"]] for row in rows]))
"""


@pytest.mark.parametrize("method", ["lora", "rslora", "dora", "qlora"])
def test_axolotl_reads_its_config(
    method: str, trainers: Path, places: tuple[Conversation, ...], chat_folder: Path, tmp_path: Path
) -> None:
    """Its own validation knows every key and changes no value of ours."""
    folder, _ = handed("axolotl", places, chat_folder, tmp_path / "out", method=method)

    found = ask(trainers, folder, AXOLOTL_CONFIG)

    written = yaml.safe_load((folder / "axolotl.yaml").read_text(encoding="utf-8"))
    assert found["unknown"] == []
    plain = {key: value for key, value in written.items() if key not in ("datasets", "test_datasets")}
    assert {key: found["read"].get(key) for key in plain} == plain
    for rows in ("datasets", "test_datasets"):
        assert written[rows][0].items() <= found["read"][rows][0].items()


def test_axolotl_masks_as_we_do(
    trainers: Path,
    places: tuple[Conversation, ...],
    chat_tokenizer: PreTrainedTokenizerBase,
    chat_folder: Path,
    tmp_path: Path,
) -> None:
    """Its rows begin with our ids, its labels stand where our mask does; what its template writes after has none."""
    folder, _ = handed("axolotl", places, chat_folder, tmp_path / "out")

    found = ask(trainers, folder, AXOLOTL_ROWS)

    for (ids, labels), conversation in zip(found, places, strict=True):
        ours = render(chat_tokenizer, conversation)
        assert tuple(ids[: len(ours.ids)]) == ours.ids
        assert [label != -100 for label in labels] == [*ours.mask, *[False] * (len(ids) - len(ours.ids))]


# --- TRL


TRL_CONFIG = """
import json
from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig, TrlParser

parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig))
parts = parser.parse_args_and_config(["--config", "trl.yaml", "--use_cpu", "true", "--bf16", "false"])
print(json.dumps({key: value for part in parts for key, value in vars(part).items()}, default=str))
"""


@pytest.mark.parametrize("method", ["dora", "qlora"])
def test_trl_reads_its_config(
    method: str, trainers: Path, places: tuple[Conversation, ...], chat_folder: Path, tmp_path: Path
) -> None:
    """Its own parser, told to refuse what it does not know, has every value of ours."""
    folder, _ = handed("trl", places, chat_folder, tmp_path / "out", method=method)

    found = ask(trainers, folder, TRL_CONFIG)

    written = yaml.safe_load((folder / "trl.yaml").read_text(encoding="utf-8"))
    written["report_to"] = []  # what TRL makes of "none"
    [written["lora_target_modules"]] = written["lora_target_modules"]
    assert {key: found[key] for key in written} == written


TRL_ROWS = """
import json
from datasets import load_dataset
from trl import ModelConfig, ScriptArguments, SFTConfig, SFTTrainer, TrlParser

parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig))
words = "--config trl.yaml --use_cpu true --bf16 false".split()
script, arguments, model = parser.parse_args_and_config(words)
rows = load_dataset(script.dataset_name)
sets = {"train_dataset": rows["train"], "eval_dataset": rows["validation"]}
trainer = SFTTrainer(model.model_name_or_path, args=arguments, **sets)
batch = trainer.data_collator([trainer.train_dataset[i] for i in range(len(trainer.train_dataset))])
print(json.dumps([batch["input_ids"].tolist(), batch["labels"].tolist()]))
"""


def test_trl_masks_as_we_do(
    trainers: Path,
    places: tuple[Conversation, ...],
    chat_tokenizer: PreTrainedTokenizerBase,
    chat_folder: Path,
    tmp_path: Path,
) -> None:
    """A batch as its trainer gets it has our ids and labels, and beyond them padding without labels."""
    folder, _ = handed("trl", places, chat_folder, tmp_path / "out")

    ids, labels = ask(trainers, folder, TRL_ROWS)

    for row, marks, conversation in zip(ids, labels, places, strict=True):
        ours = render(chat_tokenizer, conversation)
        assert tuple(row[: len(ours.ids)]) == ours.ids
        assert [mark != -100 for mark in marks] == [*ours.mask, *[False] * (len(row) - len(ours.ids))]


def test_trl_trains_an_adapter_that_comes_back(
    trainers: Path, places: tuple[Conversation, ...], chat_folder: Path, tmp_path: Path
) -> None:
    """The README's command runs, and what it leaves merges into the base, on the top block only."""
    folder, settings = handed("trl", places, chat_folder, tmp_path / "out", method="rslora")

    run(trainers, folder, "trl", "sft", "--config", "trl.yaml", "--use_cpu", "true", "--bf16", "false")

    model = load_model(chat_folder, dtype=torch.float32)
    layers = merge_adapter(model, folder / "out")
    assert len(layers) == 7
    assert all(".layers.1." in layer for layer in layers)
    config = json.loads((folder / "out" / "adapter_config.json").read_text(encoding="utf-8"))
    told = (config["r"], config["lora_alpha"], config["use_rslora"])
    assert told == (settings.rank, settings.alpha, True)
    before = load_model(chat_folder, dtype=torch.float32)
    name = "model.layers.1.mlp.up_proj.weight"
    assert not torch.equal(model.get_parameter(name), before.get_parameter(name))


# --- LitGPT

# LitGPT converts models that it knows by name; this is what it does for one of the family.
LITGPT_CHECKPOINT = """
import sys
from pathlib import Path

import torch
from litgpt import Config
from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama
from litgpt.utils import save_config
from safetensors.torch import load_file
from transformers import AutoConfig

folder = Path(sys.argv[1])
base = AutoConfig.from_pretrained(folder)
config = Config(
    name="tiny", block_size=512, vocab_size=base.vocab_size, padded_vocab_size=base.vocab_size,
    n_layer=base.num_hidden_layers, n_head=base.num_attention_heads, n_embd=base.hidden_size,
    n_query_groups=base.num_key_value_heads, rotary_percentage=1.0, parallel_residual=False, bias=False,
    norm_class_name="RMSNorm", norm_eps=base.rms_norm_eps, mlp_class_name="LLaMAMLP",
    intermediate_size=base.intermediate_size,
)
save_config(config, folder)
weights = {}
copy_weights_hf_llama(config, {}, weights, load_file(folder / "model.safetensors"))
torch.save(weights, folder / "lit_model.pth")
"""
LITGPT_ROWS = """
import json, yaml
from jsonargparse import ArgumentParser
from litgpt.data import DataModule
from litgpt.tokenizer import Tokenizer

config = yaml.safe_load(open("litgpt.yaml"))
parser = ArgumentParser()
parser.add_argument("--data", type=DataModule)
data = parser.instantiate_classes(parser.parse_object({"data": config["data"]})).data
data.connect(Tokenizer(config["checkpoint_dir"]), batch_size=1, max_seq_length=config["train"]["max_seq_length"])
data.setup()
print(json.dumps([[row["input_ids"].tolist(), row["labels"].tolist()] for row in data.train_dataset]))
"""


def test_litgpt_trains_an_adapter_that_comes_back(
    trainers: Path,
    places: tuple[Conversation, ...],
    chat_tokenizer: PreTrainedTokenizerBase,
    chat_folder: Path,
    tmp_path: Path,
) -> None:
    """It reads our rows and labels, and its adapter, turned into PEFT's, makes the weights that it merges itself."""
    folder, settings = handed("litgpt", places, chat_folder, tmp_path / "out")
    config = yaml.safe_load((folder / "litgpt.yaml").read_text(encoding="utf-8"))
    checkpoint = folder / config["checkpoint_dir"]
    shutil.copytree(chat_folder, checkpoint)
    # As the README asks for where prompts begin with a BOS token.
    tokenizer = json.loads((checkpoint / "tokenizer_config.json").read_text(encoding="utf-8"))
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"add_bos_token": True}))
    run(trainers, folder, "python", "-c", LITGPT_CHECKPOINT, str(checkpoint))

    rows = ask(trainers, folder, LITGPT_ROWS)
    run(trainers, folder, "litgpt", "finetune_lora", "--config", "litgpt.yaml")
    run(trainers, folder, "python", "to_peft.py", "out/final", "adapter")

    for (ids, labels), conversation in zip(rows, places, strict=True):
        ours = render(chat_tokenizer, conversation)
        assert tuple(ids) == ours.ids
        assert [label != -100 for label in labels] == list(ours.mask)
    given = yaml.safe_load((folder / "out/final/hyperparameters.yaml").read_text(encoding="utf-8"))
    assert {key: given[key] for key in ("lora_r", "lora_alpha", "seed")} == {
        "lora_r": settings.rank,
        "lora_alpha": settings.alpha,
        "seed": settings.seed,
    }
    assert config["optimizer"]["init_args"].items() <= given["optimizer"]["init_args"].items()
    assert config["train"].items() <= given["train"].items()
    ours_merged = load_model(chat_folder, dtype=torch.float32, adapter=folder / "adapter").state_dict()
    theirs = torch.load(folder / "out/final/lit_model.pth", weights_only=True)
    for block in range(2):
        attention = f"model.layers.{block}.self_attn"
        joined = torch.cat([ours_merged[f"{attention}.{part}_proj.weight"] for part in "qkv"])
        torch.testing.assert_close(joined, theirs[f"transformer.h.{block}.attn.qkv.weight"].float())
        for name, layer in (("gate", "fc_1"), ("up", "fc_2"), ("down", "proj")):
            torch.testing.assert_close(
                ours_merged[f"model.layers.{block}.mlp.{name}_proj.weight"],
                theirs[f"transformer.h.{block}.mlp.{layer}.weight"].float(),
            )


# --- Unsloth


def test_unsloths_script_calls_what_there_is(
    trainers: Path, places: tuple[Conversation, ...], chat_folder: Path, tmp_path: Path
) -> None:
    """The functions of the released package have every argument that is passed, and TRL's SFTConfig the rest."""
    folder, _ = handed("unsloth", places, chat_folder, tmp_path / "out", alpha=8.5, method="rslora")
    wheels = tmp_path / "wheels"
    run(trainers, folder, "python", "-m", "pip", "download", "--no-deps", "--dest", str(wheels), *UNSLOTH)
    for wheel in wheels.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(wheels)

    passed = literals(folder / "train.py")

    load = arguments_of(wheels / "unsloth/models/loader.py", "FastLanguageModel", "from_pretrained")
    adapt = arguments_of(wheels / "unsloth/models/llama.py", "FastLlamaModel", "get_peft_model")
    assert set(passed["LOAD"]) - load == set()
    assert set(passed["ADAPT"]) - adapt == set()
    code = (
        f"from trl import SFTConfig; SFTConfig(use_cpu=True, bf16=False, **{passed['ARGUMENTS']!r}); print(1)"
    )
    assert ask(trainers, folder, code) == 1


def literals(script: Path) -> dict[str, Any]:
    """Return a script's constants."""
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(script.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id.isupper()
    }


def arguments_of(module: Path, owner: str, function: str) -> set[str]:
    """Return the names of a method's arguments, read from its source."""
    [found] = [
        method
        for part in ast.parse(module.read_text(encoding="utf-8")).body
        if isinstance(part, ast.ClassDef) and part.name == owner
        for method in part.body
        if isinstance(method, ast.FunctionDef) and method.name == function
    ]
    return {argument.arg for argument in (*found.args.args, *found.args.kwonlyargs)}
