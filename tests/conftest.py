"""The toolbox, a whole project with tiny models, run once and copied; and a chat model of random weights alone."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from tunesmith.project import Project

# Nothing here asserts how fast something is; a busy machine must not fail a property.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

TOOLBOX = Path(__file__).parent / "toolbox"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass
class Record:
    """A Show that remembers: which stages were made or reused, each stage's progress, what was said."""

    made: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    steps: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    stage: str = ""

    def stage_started(self, name: str, caption: str) -> None:
        """Note the stage."""
        self.stage = name
        self.steps[name] = []

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Note how far the stage is."""
        self.steps[self.stage].append((done, total))

    def stage_done(self, name: str, seconds: float, reused: bool, counts: Mapping[str, int]) -> None:
        """Note what came of it."""
        (self.reused if reused else self.made).append(name)
        self.counts[name] = dict(counts)

    def say(self, text: str) -> None:
        """Note what a person would read."""
        self.said.append(text)


@dataclass(frozen=True, slots=True)
class Toolbox:
    """A project that ran from the sources to the report, what it told on its way, and the environment it needs."""

    project: Project
    record: Record
    environment: Mapping[str, str] = field(repr=False)

    def copy(self, folder: Path) -> Project:
        """Return a copy of the project, finished work included, in a new folder."""
        from tunesmith.project import Project

        shutil.copytree(self.project.path, folder)
        return Project.open(folder)


@pytest.fixture(scope="session")
def toolbox_site() -> Iterator[Path]:
    """Make the package `toolbox` one that is installed."""
    site = TOOLBOX / "site"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(site)])
        yield site


@pytest.fixture(scope="session")
def toolbox_folder(tmp_path_factory: pytest.TempPathFactory, toolbox_site: Path) -> Path:
    """Write the project's folder, its two models in it, with nothing done yet."""
    folder = tmp_path_factory.mktemp("toolbox") / "fresh"
    shutil.copytree(TOOLBOX / "project", folder)
    texts = [
        path.read_text(encoding="utf-8") for path in (*folder.rglob("*.jsonl"), *toolbox_site.glob("*.py"))
    ]
    write_chat_model(folder / "models" / "chat", sorted(texts))
    write_encoder(folder / "models" / "encoder", sorted(texts))
    return folder


@pytest.fixture(scope="session")
def toolbox(toolbox_folder: Path) -> Toolbox:
    """Run the whole project once; tests look at it, or change a copy of it."""
    import torch

    from tunesmith.project import Project

    # As in the processes that tests start: another number of threads sums in another order.
    torch.set_num_threads(1)
    folder = toolbox_folder.with_name("finished")
    shutil.copytree(toolbox_folder, folder)
    project, record = Project.open(folder), Record()
    project.run(show=record)
    paths = [str(TOOLBOX.parents[1] / "src"), str(TOOLBOX / "site")]
    return Toolbox(
        project, record, {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    )


@pytest.fixture
def record() -> Record:
    """Return a Show that remembers."""
    return Record()


@pytest.fixture
def fresh(toolbox_folder: Path, tmp_path: Path) -> Project:
    """Copy the project's folder, with nothing done yet."""
    from tunesmith.project import Project

    shutil.copytree(toolbox_folder, tmp_path / "fresh")
    return Project.open(tmp_path / "fresh")


def write_chat_model(folder: Path, texts: list[str]) -> None:
    """Write a Llama of two blocks with a tokenizer trained on the texts, always the same."""
    import torch
    from tokenizers import decoders, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    backend = _trained_bpe(texts, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    backend.decoder = decoders.ByteLevel()
    assert isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=backend.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)


def write_encoder(folder: Path, texts: list[str]) -> None:
    """Write a BERT of two blocks with a tokenizer trained on the texts, always the same."""
    import torch
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    backend = _trained_bpe(texts, ["[PAD]", "[UNK]"])
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        folder
    )
    config = BertConfig(
        vocab_size=backend.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)


def _trained_bpe(texts: list[str], special: list[str]) -> Tokenizer:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return backend


# --- a chat model alone: it can be trained to be sure of a token, and is different for different prompts


class NewChatModel(Protocol):
    """Makes a tiny chat model."""

    def __call__(self, *, seed: int = 0, attention_dropout: float = 0.0) -> LlamaForCausalLM:
        """Return a Llama of two layers, always the same for a seed."""
        ...


@pytest.fixture(scope="session")
def chat_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of 300 tokens with the ChatML template."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Line breaks and spaces in a row, so that there are tokens that could run over the end of a prompt.
    text = "system user assistant\n\n  the shortest path is found by this function\n\n\n\n  "
    core.train_from_iterator([text] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@pytest.fixture(scope="session")
def new_chat_model(chat_tokenizer: PreTrainedTokenizerFast) -> NewChatModel:
    """Return the maker of tiny chat models; it lets torch use one thread."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)

    def make(*, seed: int = 0, attention_dropout: float = 0.0) -> LlamaForCausalLM:
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(chat_tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            attention_dropout=attention_dropout,
            bos_token_id=chat_tokenizer.bos_token_id,
            eos_token_id=chat_tokenizer.eos_token_id,
            pad_token_id=chat_tokenizer.pad_token_id,
        )
        model = LlamaForCausalLM(config).eval()
        model.set_attn_implementation("sdpa")
        # Larger than at the start of pre-training, so that the model can be sure of a token, and attends to some.
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.data.mul_(25 if "lm_head" in name or "embed" in name else 10)
        return model

    return make


@pytest.fixture(scope="session")
def chat_folder(
    chat_tokenizer: PreTrainedTokenizerFast,
    new_chat_model: NewChatModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return a folder with the tiny chat model and its tokenizer, as save_pretrained leaves it."""
    folder = tmp_path_factory.mktemp("chat_model")
    new_chat_model().save_pretrained(folder)
    chat_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return what writes the tiny model of a family (tests/families.py), once, and tells its folder."""
    import torch
    from tests.families import FAMILIES

    torch.set_num_threads(1)

    @cache
    def folder(family: str) -> Path:
        return FAMILIES[family].write(tmp_path_factory.mktemp(family))

    return folder
