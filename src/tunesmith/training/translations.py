"""What a run's settings are called in Axolotl, LitGPT, TRL and Unsloth, and what they cannot be told.

Each tool is a function from a Job to a Translation. Key names are those of Axolotl 0.19, LitGPT 0.5.13, TRL 1.16 and
Unsloth 2026.10; slow tests have the tools' own parsers read what is written here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pprint import pformat
from typing import Any, Final, Literal

import yaml

from tunesmith.errors import TrainingError
from tunesmith.training.settings import TrainSettings

# What the learning rate falls to, as a share of its peak; the tools' own default is nought.
_FLOOR = 0.05


@dataclass(frozen=True, slots=True)
class Job:
    """What a tool is told: the settings, and what follows from them, the base model and the rows.

    `model` is a hub id (`revision` may go with it) or a folder; `folder` is where its files are here. `targets` are the
    names of the adapted linear layers, `layers` the adapted blocks (None: all). `ends` are the tokens that end the
    assistant's turns, `eos` is the tokenizer's own; `bos` tells whether prompts begin with the tokenizer's BOS token.
    `template` is the chat template, `alone` tells whether it renders the conversations as Tunesmith does without help.
    `steps` counts those of all epochs, `valid` the validation rows.
    """

    settings: TrainSettings
    model: str
    revision: str | None
    folder: Path
    targets: tuple[str, ...]
    layers: tuple[int, ...] | None
    ends: tuple[str, ...]
    eos: str
    bos: bool
    template: str
    alone: bool
    steps: int
    valid: int

    @property
    def warmup_steps(self) -> int:
        """The steps in which the rate rises, counted as our own loop does."""
        return max(1, round(self.settings.warmup_share * self.steps))

    def whole_alpha(self, tool: str) -> int:
        """Return alpha as the whole number that a tool needs; raises TrainingError if it is none."""
        if not self.settings.alpha.is_integer():
            raise TrainingError(
                f"{tool} takes whole numbers for LoRA's alpha, and alpha is {self.settings.alpha:g}",
                hint=f"Set alpha = {round(self.settings.alpha)} in [train], or hand over to Unsloth.",
            )
        return int(self.settings.alpha)


@dataclass(frozen=True, slots=True)
class Translation:
    """A tool's files, the commands that use them, and what became of each setting.

    `data` is the form in which the tool reads the rows, besides the conversations that every folder has. `told` says
    for a setting what it is called there, `untold` why the tool does not know it; a setting in neither is not
    translated either, and the folder's README says so. `differs` is what else is not as in Tunesmith.
    """

    tool: str
    data: Literal["conversations", "tokens", "instructions"]
    files: Mapping[str, str]
    commands: tuple[str, ...]
    adapter: str
    told: Mapping[str, str]
    untold: Mapping[str, str] = field(default_factory=dict)
    differs: tuple[str, ...] = ()


def axolotl(job: Job) -> Translation:
    """Write axolotl.yaml: conversations as they are, masked by Axolotl's own chat_template strategy."""
    settings = job.settings
    if not job.alone:
        raise TrainingError(
            "Axolotl renders with the chat template alone, and this one leaves out or refuses a system's words",
            hint="Hand over to litgpt, trl or unsloth, whose rows are rendered here.",
        )
    config: dict[str, Any] = {
        "base_model": job.model,
        **({} if job.revision is None else {"revision_of_model": job.revision}),
        "datasets": [_axolotl_rows("train.jsonl", job.template)],
        "test_datasets": [_axolotl_rows("valid.jsonl", job.template)],
        **({} if job.ends == (job.eos,) else {"eot_tokens": list(job.ends)}),
        "sequence_len": settings.max_length,
        "excess_length_strategy": {"refuse": "raise", "cut": "truncate", "drop": "drop"}[settings.too_long],
        "sample_packing": False,
        "pad_to_sequence_len": False,
        **_of_method("Axolotl", settings.method, _AXOLOTL_METHODS),
        "lora_r": settings.rank,
        "lora_alpha": job.whole_alpha("Axolotl"),
        "lora_dropout": 0.0,
        "lora_target_modules": list(job.targets),
        **({} if job.layers is None else {"peft_layers_to_transform": list(job.layers)}),
        "micro_batch_size": settings.batch_size,
        "gradient_accumulation_steps": 1,
        "num_epochs": settings.epochs,
        "optimizer": "adamw_torch",
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "lr_scheduler": "cosine",
        "cosine_min_lr_ratio": _FLOOR,
        "warmup_steps": job.warmup_steps,
        "max_grad_norm": settings.clip,
        "eval_steps": settings.evaluate_every,
        "save_steps": settings.evaluate_every,
        "save_total_limit": 1,
        "load_best_model_at_end": True,
        "early_stopping_patience": settings.patience,
        "bf16": "auto",
        "seed": settings.seed,
        "logging_steps": 1,
        "output_dir": "out",
    }
    return Translation(
        tool="Axolotl",
        data="conversations",
        files={"axolotl.yaml": _yaml(config)},
        commands=("pip install axolotl", "axolotl train axolotl.yaml"),
        adapter="out",
        told={
            **_IN_THE_ROWS,
            "base": "base_model",
            "method": "adapter, peft_use_rslora, peft_use_dora, load_in_4bit",
            "epochs": "num_epochs",
            "batch_size": "micro_batch_size",
            "learning_rate": "learning_rate",
            "weight_decay": "weight_decay",
            "rank": "lora_r",
            "alpha": "lora_alpha",
            "top_layers": "peft_layers_to_transform",
            "warmup_share": "warmup_steps",
            "clip": "max_grad_norm",
            "max_length": "sequence_len",
            "too_long": "excess_length_strategy",
            "evaluate_every": "eval_steps, save_steps",
            "patience": "early_stopping_patience",
            "seed": "seed",
        },
        differs=_OTHER_BATCHES,
    )


def trl(job: Job) -> Translation:
    """Write trl.yaml for `trl sft`: rows of tokens with labels, since few chat templates mark the assistant's words."""
    config = {
        "model_name_or_path": job.model,
        **({} if job.revision is None else {"model_revision": job.revision}),
        "dtype": "auto",
        "dataset_name": "./tokens",
        "dataset_train_split": "train",
        "dataset_test_split": "validation",
        "use_peft": True,
        **_of_method("TRL", job.settings.method, _TRL_METHODS),
        "lora_r": job.settings.rank,
        "lora_alpha": job.whole_alpha("TRL"),
        "lora_dropout": 0.0,
        "lora_target_modules": [_layers_pattern(job)],
        **_sft_arguments(job),
    }
    return Translation(
        tool="TRL",
        data="tokens",
        files={"trl.yaml": _yaml(config)},
        commands=("pip install 'trl[peft]'", "trl sft --config trl.yaml"),
        adapter="out",
        told={
            **_IN_THE_ROWS,
            **_SFT_NAMES,
            "base": "model_name_or_path",
            "method": "use_rslora, use_dora, load_in_4bit",
            "rank": "lora_r",
            "alpha": "lora_alpha",
            "top_layers": "lora_target_modules",
        },
        untold={
            "patience": "`trl sft` does not stop early; the adapter of the best validation loss is kept all the same"
        },
        differs=(*_OTHER_BATCHES, "Without a GPU add `--use_cpu true --bf16 false` to the command."),
    )


def unsloth(job: Job) -> Translation:
    """Write train.py for Unsloth: rows of tokens with their labels, in TRL's trainer as Unsloth patches it."""
    settings = job.settings
    load = {
        "model_name": job.model,
        **({} if job.revision is None else {"revision": job.revision}),
        "max_seq_length": settings.max_length,
        "load_in_4bit": settings.method == "qlora",
        "load_in_16bit": settings.method != "qlora",
        "random_state": settings.seed,
    }
    adapt = {
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": 0.0,
        **_of_method("Unsloth", settings.method, _UNSLOTH_METHODS),
        "target_modules": list(job.targets),
        "layers_to_transform": None if job.layers is None else list(job.layers),
        "random_state": settings.seed,
    }
    script = _UNSLOTH_SCRIPT.format(
        load=_literal(load),
        adapt=_literal(adapt),
        arguments=_literal(_sft_arguments(job)),
        patience=settings.patience,
    )
    return Translation(
        tool="Unsloth",
        data="tokens",
        files={"train.py": script},
        commands=("pip install unsloth", "python train.py"),
        adapter="out",
        told={
            **_IN_THE_ROWS,
            **_SFT_NAMES,
            "base": "model_name",
            "method": "use_rslora, load_in_4bit",
            "rank": "r",
            "alpha": "lora_alpha",
            "top_layers": "layers_to_transform",
            "patience": "EarlyStoppingCallback",
        },
        differs=(*_OTHER_BATCHES, "Unsloth needs a GPU."),
    )


def litgpt(job: Job) -> Translation:
    """Write litgpt.yaml for `litgpt finetune_lora`: each answer with its rendered prompt, in LitGPT's JSON module."""
    settings = job.settings
    if job.ends != (job.eos,):
        raise TrainingError(
            f"LitGPT ends every answer with the tokenizer's eos_token {job.eos!r}, and this model's chat template with "
            f"{', '.join(map(repr, job.ends))}",
            hint="Hand over to axolotl, trl or unsloth.",
        )
    if job.warmup_steps >= job.steps:
        raise TrainingError(
            f"LitGPT needs steps after those in which the rate rises, and {job.warmup_steps} of {job.steps} are such",
            hint="Train for more epochs, in smaller batches, or lower warmup_share in [train].",
        )
    checkpoint, *commands = _litgpt_checkpoint(job)
    config = {
        "checkpoint_dir": checkpoint,
        "out_dir": "out",
        **_of_method("LitGPT", settings.method, _LITGPT_METHODS),
        "lora_r": settings.rank,
        "lora_alpha": job.whole_alpha("LitGPT"),
        "lora_dropout": 0.0,
        **{f"lora_{part}": True for part in ("query", "key", "value", "projection", "mlp")},
        "lora_head": False,
        "data": {
            "class_path": "litgpt.data.JSON",
            "init_args": {
                "json_path": "data",
                "mask_prompt": True,
                "prompt_style": {"class_path": "litgpt.prompts.Default"},
                "seed": settings.seed,
            },
        },
        "train": {
            "epochs": settings.epochs,
            "global_batch_size": settings.batch_size,
            "micro_batch_size": settings.batch_size,
            "lr_warmup_steps": job.warmup_steps,
            "max_seq_length": settings.max_length,
            "save_interval": settings.evaluate_every,
        },
        "eval": {
            "interval": settings.evaluate_every,
            "max_iters": -(-job.valid // settings.batch_size),
            "max_new_tokens": 100,
        },
        "optimizer": {
            "class_path": "torch.optim.AdamW",
            "init_args": {"lr": settings.learning_rate, "weight_decay": settings.weight_decay},
        },
        "seed": settings.seed,
    }
    return Translation(
        tool="LitGPT",
        data="instructions",
        files={
            "litgpt.yaml": _yaml(config),
            "to_peft.py": Path(__file__).with_name("litgpt_to_peft.py").read_text(encoding="utf-8"),
        },
        commands=(
            "pip install litgpt pyyaml",
            *commands,
            "litgpt finetune_lora --config litgpt.yaml",
            "python to_peft.py out/final adapter",
        ),
        adapter="adapter",
        told={
            **_IN_THE_ROWS,
            "base": "checkpoint_dir",
            "method": "quantize",
            "epochs": "train.epochs",
            "batch_size": "train.global_batch_size, train.micro_batch_size",
            "learning_rate": "optimizer.init_args.lr",
            "weight_decay": "optimizer.init_args.weight_decay",
            "rank": "lora_r",
            "alpha": "lora_alpha",
            "warmup_share": "train.lr_warmup_steps",
            "max_length": "train.max_seq_length",
            "evaluate_every": "eval.interval, train.save_interval",
            "seed": "seed, data.init_args.seed",
        },
        untold={
            "top_layers": "LitGPT adapts all blocks",
            "clip": "`litgpt finetune_lora` does not clip gradients",
            "patience": "LitGPT neither stops early nor keeps the best adapter: each look at the validation loss "
            "leaves a folder `out/step-NUMBER`, which `to_peft.py` takes in place of `out/final`",
        },
        differs=(
            f"The learning rate falls to nought, in Tunesmith to {_FLOOR:.0%} of its peak.",
            "Batches are drawn at random; in Tunesmith rows of like length share a batch.",
            *_litgpt_bos(job, checkpoint),
        ),
    )


TOOLS: Final[dict[str, Callable[[Job], Translation]]] = {
    "axolotl": axolotl,
    "litgpt": litgpt,
    "trl": trl,
    "unsloth": unsloth,
}

# What the rows already carry, whoever reads them.
_IN_THE_ROWS: Final = {
    **dict.fromkeys(
        ("objective", "examples", "retrieved_share", "doubt", "passages", "quotes", "too_long", "canaries"),
        "(in the data)",
    ),
    "beta": "(for preferences only)",
}

# What each tool is told to train by a method that it has; what it merges and saves is LoRA's or DoRA's adapter.
_AXOLOTL_METHODS: Final[dict[str, dict[str, Any]]] = {
    "lora": {"adapter": "lora"},
    "rslora": {"adapter": "lora", "peft_use_rslora": True},
    "dora": {"adapter": "lora", "peft_use_dora": True},
    "qlora": {"adapter": "qlora", "load_in_4bit": True},
}
_TRL_METHODS: Final[dict[str, dict[str, Any]]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "qlora": {"load_in_4bit": True},
}
_UNSLOTH_METHODS: Final[dict[str, dict[str, Any]]] = {"lora": {}, "rslora": {"use_rslora": True}, "qlora": {}}
_LITGPT_METHODS: Final[dict[str, dict[str, Any]]] = {
    "lora": {"precision": "bf16-mixed"},
    "qlora": {"precision": "bf16-true", "quantize": "bnb.nf4"},
}


def _of_method(tool: str, method: str, methods: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    if method not in methods:
        raise TrainingError(
            f"{tool} is not handed method = {method!r}",
            hint=f"Set method in [train] to {' or '.join(methods)}, or take another trainer.",
        )
    return methods[method]


_OTHER_BATCHES: Final = ("Batches are drawn at random; in Tunesmith rows of like length share a batch.",)

_SFT_NAMES: Final = {
    "epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
    "learning_rate": "learning_rate",
    "weight_decay": "weight_decay",
    "warmup_share": "warmup_steps",
    "clip": "max_grad_norm",
    "max_length": "max_length",
    "evaluate_every": "eval_steps, save_steps",
    "seed": "seed",
}


def _axolotl_rows(path: str, template: str) -> dict[str, Any]:
    return {
        "path": path,
        "ds_type": "json",
        "split": "train",
        "type": "chat_template",
        "chat_template": "jinja",
        "chat_template_jinja": template,
        "field_messages": "messages",
        "roles_to_train": ["assistant"],
        "train_on_eos": "turn",
    }


def _sft_arguments(job: Job) -> dict[str, Any]:
    """Return what TRL's SFTConfig is told, by TRL's own command or by Unsloth's script."""
    settings = job.settings
    return {
        "max_length": settings.max_length,
        "packing": False,
        "per_device_train_batch_size": settings.batch_size,
        "per_device_eval_batch_size": settings.batch_size,
        "gradient_accumulation_steps": 1,
        "num_train_epochs": settings.epochs,
        "optim": "adamw_torch",
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": _FLOOR},
        "warmup_steps": job.warmup_steps,
        "max_grad_norm": settings.clip,
        "eval_strategy": "steps",
        "eval_steps": settings.evaluate_every,
        "save_strategy": "steps",
        "save_steps": settings.evaluate_every,
        "save_total_limit": 1,
        "load_best_model_at_end": True,
        "seed": settings.seed,
        "logging_steps": 1,
        "report_to": "none",
        "output_dir": "out",
    }


def _layers_pattern(job: Job) -> str:
    """Return a pattern for the adapted layers' whole names: PEFT takes a single target for one."""
    blocks = r"\d+" if job.layers is None else f"(?:{'|'.join(map(str, job.layers))})"
    return rf".*\.{blocks}\.(?:.*\.)?(?:{'|'.join(map(re.escape, job.targets))})"


def _litgpt_checkpoint(job: Job) -> tuple[str, ...]:
    """Return where LitGPT's own form of the base will lie, and the commands that make it."""
    if job.model != str(job.folder) and job.revision is None:
        return f"checkpoints/{job.model}", f"litgpt download {job.model}"
    # LitGPT knows a model's shape by its name, also where the weights come from a folder.
    name = _LITGPT_NAMES.get(job.settings.base, Path(job.model).name)
    checkpoint = f"checkpoints/{name}"
    copy = f"mkdir -p checkpoints && cp -rL {shlex.quote(str(job.folder))} {checkpoint}"
    return checkpoint, copy, f"litgpt convert_to_litgpt {checkpoint}"


_LITGPT_NAMES: Final = {"smollm2": "SmolLM2-135M-Instruct"}


def _litgpt_bos(job: Job, checkpoint: str) -> tuple[str, ...]:
    if not job.bos:
        return ()
    return (
        f'The prompts begin with a BOS token. LitGPT may take it away: have `"add_bos_token": true` in '
        f"`{checkpoint}/tokenizer_config.json`.",
    )


def _yaml(config: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=110))


def _literal(arguments: Mapping[str, Any]) -> str:
    return pformat(dict(arguments), width=100, sort_dicts=False)


_UNSLOTH_SCRIPT: Final = '''"""Train a LoRA adapter with Unsloth; README.md says where the settings come from."""

from unsloth import FastLanguageModel  # first: it patches what is imported after it

from datasets import load_dataset
from transformers import EarlyStoppingCallback
from trl import SFTConfig, SFTTrainer

LOAD = {load}
ADAPT = {adapt}
ARGUMENTS = {arguments}
PATIENCE = {patience}

model, tokenizer = FastLanguageModel.from_pretrained(**LOAD)
model = FastLanguageModel.get_peft_model(model, **ADAPT)
rows = load_dataset("json", data_files={{"train": "tokens/train.jsonl", "valid": "tokens/valid.jsonl"}})
trainer = SFTTrainer(
    model=model,
    processing_class=tokenizer,
    train_dataset=rows["train"],
    eval_dataset=rows["valid"],
    args=SFTConfig(**ARGUMENTS),
    callbacks=[EarlyStoppingCallback(early_stopping_patience=PATIENCE)],
)
trainer.train()
trainer.save_model(ARGUMENTS["output_dir"])
'''
