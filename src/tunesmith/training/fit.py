"""Make a run fit a GPU and use it fully: how large its parts are, what is computed again, and what is compiled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunesmith.training.engine import out_of_memory
from tunesmith.training.entropy import can_compile, compile_entropy

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from tunesmith.training.engine import Engine

# No gain beyond: the products are large enough, and a step's rows must fill its parts.
LARGEST_PART = 32_768
# Of the memory that is free: the rest is for what the allocator cannot use, and for the optimiser.
USABLE = 0.85
# Compiling takes about a minute and saves a quarter of a step or more (benchmarks/RESULTS.md).
PAYS_FROM_SECONDS = 300.0


def fit_memory(engine: Engine, rows: Sequence[Any]) -> None:
    """Set the size of the engine's parts so that they fit into a GPU's memory.

    Measured on the longest of the rows and on the one with most labels, whose logits take room. Where the longest would
    not fit, layers keep their inputs alone and compute again what the gradient needs (gradient checkpointing: Chen et
    al. 2016, arXiv:1604.06174). All processes of a run decide alike, by the one with least room.
    """
    if engine.model.device.type != "cuda":
        return
    longest = max(rows, key=lambda row: _tokens(engine, row))
    tried = [longest, max(rows, key=lambda row: sum(text.labelled for text in engine.objective.texts(row)))]
    tokens = _tokens(engine, longest)
    per_token = _most_bytes_per_token(engine, tried)
    if per_token * tokens > _room(engine):
        _recompute(engine.model)
        engine.say("memory is short: layers compute again for the gradient what they would have kept")
        per_token = _most_bytes_per_token(engine, tried)
    limit = min(LARGEST_PART, int(_room(engine) / per_token))
    engine.layout = replace(engine.layout, limit=max(limit, tokens))


def compile_layers(model: PreTrainedModel) -> None:
    """Let torch compile the layers of a model, all from one, when they are next used, and the loss."""
    for layer in blocks(model):
        layer.compile(dynamic=True)
    compile_entropy()


def compile_where_it_pays(engine: Engine, rows: Sequence[Any], steps: int) -> None:
    """Compile the layers if the steps ahead, at the pace of one that is timed now, take long enough."""
    import torch

    if engine.model.device.type != "cuda" or not can_compile():
        return
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        engine.gradient(rows)
        engine.clear()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    if seconds[-1] * steps >= PAYS_FROM_SECONDS:
        compile_layers(engine.model)
        engine.say("the layers are compiled: the first steps take longer")


def blocks(model: PreTrainedModel) -> list[nn.Module]:
    """Return the model's layers: the modules of its longest list of modules."""
    from torch import nn

    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=len, default=[]))


def _tokens(engine: Engine, row: Any) -> int:
    return sum(len(text.ids) for text in engine.objective.texts(row))


def _room(engine: Engine) -> int:
    """Return the bytes that may be used on the GPU with least room."""
    import torch

    def free() -> int:
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0]

    return int(min(engine.ranks.everyone(free)) * USABLE)


def _most_bytes_per_token(engine: Engine, rows: Sequence[Any]) -> float:
    """Return the most that a gradient over one of these rows takes for a token; infinite where memory ran out."""

    def measured() -> float:
        try:
            return max(_bytes_per_token(engine, row) for row in rows)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            engine.clear()
            return float("inf")

    return max(engine.ranks.everyone(measured))


def _bytes_per_token(engine: Engine, row: Any) -> float:
    """Return how much memory a gradient takes for each token of a part, at its peak."""
    import torch

    tokens = _tokens(engine, row)
    # Short rows together, so that what does not grow with a part weighs little.
    parts = engine.objective.parts([row] * max(1, 1024 // tokens), replace(engine.layout, limit=10**9))
    engine.clear()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    engine.gradient_of(parts)
    engine.clear()
    return (torch.cuda.max_memory_allocated() - before) / (tokens * max(1, 1024 // tokens))


def _recompute(model: PreTrainedModel) -> None:
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    for layer in blocks(model):
        # Layers recompute only in training; not train(), for what is inside them would drop out.
        layer.training = True
