"""Make a run fit a GPU and use it fully: how large its parts are, what is computed again, and what is compiled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunesmith.training.engine import out_of_memory
from tunesmith.training.pieces import can_compile, compile_pieces

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


def fit_memory(engine: Engine, longest: Any) -> None:
    """Set the size of the engine's parts so that they fit into a GPU's memory; `longest` is the longest row.

    Measured on that row. Where it would not fit, layers keep their inputs alone and compute again what the gradient
    needs (gradient checkpointing: Chen et al. 2016, arXiv:1604.06174).
    """
    if engine.model.device.type != "cuda":
        return
    tokens = sum(len(text.ids) for text in engine.objective.texts(longest))
    try:
        per_token = _bytes_per_token(engine, longest, tokens)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        per_token = float("inf")
    if per_token * tokens > _room():
        _recompute(engine.model)
        engine.say("memory is short: layers compute again for the gradient what they would have kept")
        per_token = _bytes_per_token(engine, longest, tokens)
    limit = min(LARGEST_PART, int(_room() / per_token))
    engine.layout = replace(engine.layout, limit=max(limit, tokens))


def compile_layers(model: PreTrainedModel) -> None:
    """Let torch compile the layers of a model, all from one, when they are next used, and the loss."""
    for layer in blocks(model):
        layer.compile(dynamic=True)
    compile_pieces()


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


def _room() -> int:
    import torch

    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    return int(free * USABLE)


def _bytes_per_token(engine: Engine, row: Any, tokens: int) -> float:
    """Return how much memory a gradient takes for each token of a part, at its peak."""
    import torch

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
