"""The engines that serve an export, as its proof sees them: transformers, PEFT's layers, llama.cpp."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from tunesmith.errors import MissingExtra, ParityError
from tunesmith.models.digest import read_note
from tunesmith.models.local import load_model, load_tokenizer, prompt_ids, text_ids
from tunesmith.models.quantised import round_to_four_bits
from tunesmith.models.quiet import quiet
from tunesmith.records import Conversation

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tunesmith.models.address import Place

# Of each step so many of the likeliest tokens are kept.
KEPT: Final = 64
_SECONDS: Final = 600.0
_BLOCK: Final = 32
_FORCED: Final = 1e4
# What attention reads, with a norm of its own (Qwen3) and without.
_ATTENTION_READS: Final = ("q_proj", "k_proj", "v_proj", "q_norm", "k_norm")


@dataclass(frozen=True, slots=True)
class Step:
    """What an engine would say next: its likeliest token, and the log-probabilities of its likeliest ones."""

    token: int
    logprobs: Mapping[int, float]


class Engine(Protocol):
    """Loads an export as its users will, and shows how it reads, what it would say and where it stops."""

    @property
    def name(self) -> str:
        """The engine's name and version."""
        ...

    def tokens(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text, with nothing around them."""
        ...

    def prompt(self, conversation: Conversation) -> tuple[int, ...]:
        """Return the ids of a conversation up to where the assistant speaks, by the export's own template."""
        ...

    def stops_at(self, token: int) -> bool:
        """Tell whether the engine ends its answer once it has said this token."""
        ...

    def replay(self, prompt: Sequence[int], answer: Sequence[int]) -> tuple[Step, ...]:
        """Return what it would say in the place of each token of the answer, behind the prompt and those before."""
        ...


class Transformers:
    """A folder in transformers, computed in float32, so that only the weights' own rounding is in it."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model = model
        self._tokenizer = tokenizer
        ends = getattr(model.generation_config, "eos_token_id", None)
        self._ends = frozenset(ends if isinstance(ends, list) else [ends])

    @classmethod
    def load(cls, folder: Path) -> Transformers:
        """Return the engine for a folder of merged weights."""
        import torch

        return cls(load_model(folder, dtype=torch.float32, place="cpu"), load_tokenizer(folder))

    @property
    def name(self) -> str:
        """Transformers and its version."""
        import transformers

        return f"transformers {transformers.__version__}"

    def tokens(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text."""
        return text_ids(self._tokenizer, text)

    def text(self, ids: Sequence[int]) -> str:
        """Return ids as they are read, special tokens too."""
        return str(self._tokenizer.decode(list(ids)))

    def prompt(self, conversation: Conversation) -> tuple[int, ...]:
        """Return the ids of a conversation."""
        return prompt_ids(self._tokenizer, conversation)

    def stops_at(self, token: int) -> bool:
        """Tell whether the generation config names the token as an end."""
        return token in self._ends

    def replay(self, prompt: Sequence[int], answer: Sequence[int]) -> tuple[Step, ...]:
        """Return the steps, read in one pass."""
        import torch

        ids_1_T = torch.tensor([[*prompt, *answer[:-1]]], device=self._model.device)
        with torch.inference_mode():
            logits_T_V = self._model(input_ids=ids_1_T, logits_to_keep=len(answer)).logits[0].float()
        top = torch.log_softmax(logits_T_V, -1).topk(min(KEPT, logits_T_V.shape[-1]))
        return tuple(
            Step(tokens[0], dict(zip(tokens, values, strict=True)))
            for tokens, values in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        )

    def answers(
        self, prompts: Sequence[Sequence[int]], limit: int, ends: frozenset[int]
    ) -> list[tuple[int, ...]]:
        """Return each prompt's greedy answer of at most `limit` tokens, its end token included; all in one batch."""
        import torch
        from transformers import GenerationConfig

        pad, width = min(ends), max(map(len, prompts))
        rows = [[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        read = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        greedy = GenerationConfig(
            do_sample=False, max_new_tokens=limit, eos_token_id=sorted(ends), pad_token_id=pad
        )
        with quiet(), torch.inference_mode():
            ids_B_T = self._model.generate(
                torch.tensor(rows), attention_mask=torch.tensor(read), generation_config=greedy
            )
        return [_upto_end(ids[width:], ends) for ids in ids_B_T.tolist()]


class Peft(Transformers):
    """An adapter's folder on its base, in PEFT's own layers, computed in float32."""

    @classmethod
    def load_adapter(cls, place: Place, adapter: Path) -> Peft:
        """Return the engine for an adapter's folder and the base at `place`."""
        import torch
        from peft import PeftModel

        base = load_model(place.folder, dtype=torch.float32, place="cpu")
        note = read_note(adapter)
        if note is not None and note.quantised == "nf4":
            round_to_four_bits(base)
        tokenizer = load_tokenizer(adapter)
        with quiet(), warnings.catch_warnings():
            # PEFT still asks transformers for a property under its old name.
            warnings.simplefilter("ignore", FutureWarning)
            return cls(PeftModel.from_pretrained(base, adapter).eval(), tokenizer)

    @property
    def name(self) -> str:
        """PEFT and its version."""
        import peft

        return f"peft {peft.__version__}"


class LlamaCpp:
    """A GGUF file in llama.cpp's own server, inside this process and as it serves by default."""

    def __init__(self, path: Path, *, context: int) -> None:
        require_llama_cpp()
        import torch
        import xllamacpp

        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx = context
        parameters.n_parallel = 1
        parameters.n_gpu_layers = 0
        parameters.cpuparams.n_threads = torch.get_num_threads()
        parameters.warmup = False
        parameters.use_jinja = True
        parameters.verbosity = 0
        try:
            self._server = xllamacpp.Server(parameters)
        except RuntimeError as error:
            raise ParityError(
                f"llama.cpp does not load {path.name}: {error}",
                hint="This is a defect of the export: please report it, with the model's config.json.",
            ) from error
        self._opener = build_opener(ProxyHandler({}))

    @property
    def name(self) -> str:
        """The wheel that llama.cpp came in, and its version."""
        import xllamacpp

        return f"llama.cpp (xllamacpp {xllamacpp.__version__})"

    def tokens(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text."""
        return self._tokenized(text, add_special=False)

    def prompt(self, conversation: Conversation) -> tuple[int, ...]:
        """Return the ids of a conversation as llama.cpp renders the file's own template."""
        messages = [{"role": message.role, "content": message.content} for message in conversation]
        text = self._ask("/apply-template", {"messages": messages})["prompt"]
        return self._tokenized(text, add_special=True)

    def stops_at(self, token: int) -> bool:
        """Tell whether llama.cpp stops when it is made to say the token."""
        made = {"prompt": [token], "n_predict": 2, "temperature": 0.0, "logit_bias": [[token, _FORCED]]}
        return bool(self._ask("/completion", made)["stop_type"] == "eos")

    def replay(self, prompt: Sequence[int], answer: Sequence[int]) -> tuple[Step, ...]:
        """Return the steps; what was read before stays in llama.cpp's cache."""
        return tuple(self._step([*prompt, *answer[:count]]) for count in range(len(answer)))

    def _step(self, ids: list[int]) -> Step:
        """Return what llama.cpp would say behind these ids.

        It lists no probabilities for a token that ends within a character. So it is made to say one that it has read,
        which does not: the probabilities that it lists are those from before it was made to.
        """
        asked = {"prompt": ids, "n_predict": 1, "n_probs": KEPT, "temperature": 0.0}
        said = self._ask("/completion", asked | {"logit_bias": [[ids[0], _FORCED]]})
        [place] = said["completion_probabilities"]
        listed = {each["id"]: _finite(each["logprob"]) for each in place["top_logprobs"]}
        return Step(next(iter(listed)), listed)

    def _tokenized(self, text: str, *, add_special: bool) -> tuple[int, ...]:
        asked = {"content": text, "add_special": add_special, "parse_special": add_special}
        return tuple(self._ask("/tokenize", asked)["tokens"])

    def _ask(self, path: str, document: Mapping[str, Any]) -> Any:
        body = json.dumps(document).encode()
        request = Request(self._server.listening_address + path, body, {"Content-Type": "application/json"})
        try:
            with self._opener.open(request, timeout=_SECONDS) as response:
                return json.load(response)
        except HTTPError as error:
            words = error.read().decode(errors="replace")
            raise ParityError(
                f"llama.cpp answers {path} with {error.code}: {words[:300]}",
                hint="Most likely its Jinja does not know what the chat template uses: export with --to merged.",
            ) from error


def require_llama_cpp() -> None:
    """Raise MissingExtra unless the wheel that holds llama.cpp is installed."""
    if find_spec("xllamacpp") is None:
        raise MissingExtra("xllamacpp", "export", "The proof of a GGUF file (--no-parity goes without)")


def _upto_end(ids: Sequence[int], ends: frozenset[int]) -> tuple[int, ...]:
    """Return ids up to the first that ends a turn, that one counted."""
    stop = next((at for at, token in enumerate(ids, 1) if token in ends), len(ids))
    return tuple(ids[:stop])


def _finite(logprob: float | None) -> float:
    """Return a log-probability; llama.cpp writes what is no number as null."""
    return -math.inf if logprob is None else logprob


@contextmanager
def rounding(model: PreTrainedModel, precision: str) -> Iterator[None]:
    """Round, within the block, what llama.cpp rounds besides the weights: what matrices read, and its attention.

    A matrix in q8_0 is multiplied with values in blocks of 32 with 8 bits each, one in f16 with halves; queries, keys
    and values are halves always.
    """
    from torch import nn

    def read(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        in_blocks = precision == "q8_0" and inputs[0].shape[-1] % _BLOCK == 0
        return (_in_blocks(inputs[0]) if in_blocks else inputs[0].half().float(), *inputs[1:])

    def write(layer: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        return output.half().float()

    modules = dict(model.named_modules())
    handles = [
        *(each.register_forward_pre_hook(read) for each in modules.values() if isinstance(each, nn.Linear)),
        *(
            each.register_forward_hook(write)
            for name, each in modules.items()
            if name.endswith(_ATTENTION_READS)
        ),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _in_blocks(values: torch.Tensor) -> torch.Tensor:
    import torch

    blocks = values.reshape(*values.shape[:-1], -1, _BLOCK)
    scale = (blocks.abs().amax(-1, keepdim=True) / 127).half().float()
    return (torch.round(blocks / scale.clamp(min=1e-30)) * scale).reshape(values.shape)
