"""One run in several processes: which rows each takes, what is summed over all, errors that end all.

The processes are started by torchrun, `accelerate launch` or SLURM; accelerate reads where they are and connects them.
Weights are on each of them (DDP's arithmetic: gradients are summed after a step's last part) or, by FSDP2, sharded over
them (Zhao et al. 2023, arXiv:2304.11277).
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tunesmith.errors import TrainingError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from tunesmith.training.tuning import Tuning

Result = TypeVar("Result")
Row = TypeVar("Row")

# A process that died is noticed at once; this is for one that hangs. The first may render a large set meanwhile.
PATIENCE = timedelta(hours=1)
# Gradients travel together, in messages of this many values.
BUCKET = 2**24

# What `accelerate config` may ask for and this loop decides or cannot do, the values that ask for nothing, the way out.
_NOT_FOLLOWED = (
    (
        "ACCELERATE_USE_DEEPSPEED",
        ("", "false"),
        "DeepSpeed is not driven by this loop",
        "Take FSDP2, which shards the same: distributed_type: FSDP with fsdp_version: 2 (docs/several-machines.md).",
    ),
    (
        "ACCELERATE_USE_MEGATRON_LM",
        ("", "false"),
        "Megatron-LM is not driven by this loop",
        "Take FSDP2: distributed_type: FSDP with fsdp_version: 2 (docs/several-machines.md).",
    ),
    (
        "ACCELERATE_MIXED_PRECISION",
        ("", "no"),
        "accelerate's mixed_precision is not followed: a model is computed as it was loaded",
        "Set mixed_precision: 'no' in accelerate's config.",
    ),
    (
        "ACCELERATE_DYNAMO_BACKEND",
        ("", "no"),
        "accelerate's dynamo_backend is not followed: layers are compiled where that pays",
        "Take dynamo_config out of accelerate's config.",
    ),
    (
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
        ("", "1"),
        "accelerate's gradient_accumulation_steps is not followed: batch_size is that of all processes together",
        "Leave it out, and set batch_size in [train].",
    ),
)
_NOT_FOLLOWED_SHARDED = (
    (
        "FSDP_OFFLOAD_PARAMS",
        ("", "false"),
        "fsdp_offload_params is not followed: shards stay on their GPUs",
        "Set fsdp_offload_params: false in accelerate's config, and take more processes.",
    ),
    (
        "FSDP_IGNORED_MODULES",
        ("",),
        "fsdp_ignored_modules is not followed: all weights are sharded",
        "Take fsdp_ignored_modules out of accelerate's config.",
    ),
    (
        "FSDP_VERSION",
        ("2",),
        "weights are sharded by FSDP2 alone",
        "Set fsdp_version: 2 in accelerate's config.",
    ),
    (
        "FSDP_CPU_RAM_EFFICIENT_LOADING",
        ("", "false"),
        "every process loads the model itself, and fsdp_cpu_ram_efficient_loading would leave all but one without",
        "Set fsdp_cpu_ram_efficient_loading: false in accelerate's config.",
    ),
    (
        "FSDP_ACTIVATION_CHECKPOINTING",
        ("", "false"),
        "fsdp_activation_checkpointing is not followed: layers compute again where memory is short",
        "Set fsdp_activation_checkpointing: false in accelerate's config.",
    ),
)


class Ranks(Protocol):
    """The processes of a run, as one of them sees them: its number from 0, and how many there are."""

    @property
    def rank(self) -> int:
        """Which of the processes this is; the first writes what the run leaves."""
        ...

    @property
    def world(self) -> int:
        """How many processes there are."""
        ...

    @property
    def sharded(self) -> bool:
        """Whether each has only a part of the weights, and all must compute in step."""
        ...

    def share(self, rows: Sequence[Row], size: Callable[[Row], int]) -> Sequence[Row]:
        """Return the rows that this process takes; the shares have sizes as alike as may be."""
        ...

    def everyone(self, compute: Callable[[], Result]) -> list[Result]:
        """Compute, and return what each process has computed, the first's first; where one fails, all raise.

        Where memory ran out somewhere, torch.OutOfMemoryError is raised on all. What is computed is small and travels.
        """
        ...

    def from_first(self, compute: Callable[[], Result]) -> Result:
        """Let the first process compute, and return its result on all; where it fails, all raise."""
        ...

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Leave in each parameter the sum of all processes' gradients."""
        ...

    def place(self, model: PreTrainedModel) -> None:
        """Put a model where this process computes, or where it waits to be sharded."""
        ...

    def shard(self, model: PreTrainedModel, tuning: Tuning) -> None:
        """Leave only this process's part of the model, if it is to be sharded."""
        ...

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors with all their shards on the first process, and on the others none that was sharded."""
        ...


class Alone:
    """A run in this process alone: nothing to share, nobody to wait for."""

    rank, world, sharded = 0, 1, False

    def share(self, rows: Sequence[Row], size: Callable[[Row], int]) -> Sequence[Row]:
        """Return all rows."""
        return rows

    def everyone(self, compute: Callable[[], Result]) -> list[Result]:
        """Compute."""
        return [compute()]

    def from_first(self, compute: Callable[[], Result]) -> Result:
        """Compute."""
        return compute()

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Leave the gradients as they are."""

    def place(self, model: PreTrainedModel) -> None:
        """Leave the model where it is."""

    def shard(self, model: PreTrainedModel, tuning: Tuning) -> None:
        """Leave the model whole."""

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors."""
        return dict(tensors)


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a process could not compute; `memory` says that smaller parts may help."""

    text: str
    memory: bool


class Group:
    """One of several connected processes."""

    def __init__(self, device: torch.device, *, sharded: bool = False) -> None:
        from torch import distributed

        self.device, self.sharded = device, sharded
        self.rank, self.world = distributed.get_rank(), distributed.get_world_size()
        # Beside the GPUs' own group: on a processor's sockets a process that died is noticed at once.
        self._control = distributed.new_group(backend="gloo", timeout=PATIENCE)

    def share(self, rows: Sequence[Row], size: Callable[[Row], int]) -> Sequence[Row]:
        """Return the rows that this process takes: the largest is dealt first, each to who has least."""
        return [rows[i] for i in deal([size(row) for row in rows], self.world)[self.rank]]

    def everyone(self, compute: Callable[[], Result]) -> list[Result]:
        """Compute, and meet: what each process has computed, or the error of one of them on all."""
        # Sharded, the others wait inside the model for a process that failed, and only its end sets them free.
        return self._together(compute, tell=not self.sharded)

    def from_first(self, compute: Callable[[], Result]) -> Result:
        """Let the first process compute, and hand its result to all."""
        from torch import distributed

        found: list[Any] = [None]

        def at_first() -> None:
            if self.rank == 0:
                found[0] = compute()

        self._together(at_first, tell=True)
        with _heard():
            distributed.broadcast_object_list(found, src=0, group=self._control)
        result: Result = found[0]
        return result

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients over all processes; sharded, the model's backward has done so."""
        import torch
        from torch import distributed

        if self.sharded:
            return
        for bucket in _buckets(parameters):
            with _heard():
                # A large one travels as it is: a copy might not find room.
                flat = bucket[0] if len(bucket) == 1 else torch.cat([each.reshape(-1) for each in bucket])
                distributed.all_reduce(flat)
            if len(bucket) > 1:
                sizes = [gradient.numel() for gradient in bucket]
                for gradient, summed in zip(bucket, torch.split(flat, sizes), strict=True):
                    gradient.copy_(summed.view_as(gradient))

    def place(self, model: PreTrainedModel) -> None:
        """Put the model on this process's device; one that is to be sharded waits in the machine's memory.

        Raises TrainingError unless all processes have loaded it in the same arithmetic.
        """
        import torch

        loaded = self.everyone(lambda: str(model.dtype))
        if len(set(loaded)) > 1:
            # Cast from one to another it would not be what the others have: buffers are rounded, too.
            raise TrainingError(
                f"the processes of this run have loaded the model differently: {', '.join(loaded)}",
                hint="Where the faster arithmetic is measured, let the first process measure: Ranks.from_first.",
            )
        where = torch.device("cpu") if self.sharded else self.device
        if model.device != where:
            model.to(where)

    def shard(self, model: PreTrainedModel, tuning: Tuning) -> None:
        """Shard the model layer by layer, if it is to be; each shard goes to its process's device."""
        if self.sharded:
            _shard(model)
            # A sharded model has new parameters in the old places.
            tuning.parameters = {name: model.get_parameter(name) for name in tuning.parameters}

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gather sharded tensors one by one in the first process's memory, not on its GPU."""
        if not self.sharded:
            return dict(tensors)
        found = {}
        for name, tensor in tensors.items():
            full = gathered(tensor)
            if self.rank == 0:
                found[name] = full.cpu()
        return found

    def _together(self, compute: Callable[[], Result], *, tell: bool) -> list[Result]:
        try:
            computed = compute()
        except Exception as error:
            # Whatever it is: the others wait at their meeting, and must hear of it before it goes on its way.
            if tell:
                self._meet_failed(error)
            raise
        return self._meet(computed)

    def _meet(self, computed: Result) -> list[Result]:
        told = self._gather(computed)
        for rank, one in enumerate(told):
            if isinstance(one, _Failure) and not one.memory:
                raise _elsewhere(rank, one)
        if any(isinstance(one, _Failure) for one in told):
            import torch

            raise torch.OutOfMemoryError("another process of this run is out of memory")
        return told

    def _meet_failed(self, error: Exception) -> None:
        """Tell the others; raises what another has met if that is worse than running out of memory here."""
        from tunesmith.training.engine import out_of_memory

        mine = _Failure(str(error) or type(error).__name__, out_of_memory(error))
        for rank, one in enumerate(self._gather(mine)):
            if mine.memory and isinstance(one, _Failure) and not one.memory:
                raise _elsewhere(rank, one)

    def _gather(self, mine: Any) -> list[Any]:
        from torch import distributed

        told: list[Any] = [None] * self.world
        with _heard():
            distributed.all_gather_object(told, mine, group=self._control)
        return told


def join() -> Ranks:
    """Return the processes that this one was started with, connected to them: call it before a model is loaded.

    What torchrun and `accelerate launch` set in the environment counts; without it, this process is alone.
    Raises UsageError as `asks_for_shards` does.
    """
    _refuse_strangers()
    if processes() == 1:
        return Alone()
    import torch
    from accelerate import PartialState

    sharded = asks_for_shards()
    state = PartialState(cpu=not torch.cuda.is_available() or _asked("ACCELERATE_USE_CPU"))
    # Threads of the connection that still run when the interpreter ends would abort it.
    atexit.unregister(_part)
    atexit.register(_part)
    if state.device.type == "cuda":
        torch.cuda.set_device(state.device)
    return Group(state.device, sharded=sharded)


def _refuse_strangers() -> None:
    """Refuse processes that SLURM started without telling them of each other: all would write to the same folder."""
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks > 1 and "WORLD_SIZE" not in os.environ:
        raise UsageError(
            f"srun has started {tasks} processes that do not know of each other",
            hint="Let srun start torchrun, one task a node (docs/several-machines.md).",
        )


def asks_for_shards() -> bool:
    """Tell whether accelerate's config asks for FSDP; raises UsageError for what it asks and this loop would not do."""
    _refuse(_NOT_FOLLOWED)
    sharded = _asked("ACCELERATE_USE_FSDP")
    if sharded:
        _refuse(_NOT_FOLLOWED_SHARDED)
    return sharded


def _part() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def processes() -> int:
    """Return how many processes this one was started with, itself among them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def deal(sizes: Sequence[int], hands: int) -> list[list[int]]:
    """Return which of these each hand gets, in order: the largest goes first, to the hand that has least."""
    held = [0] * hands
    dealt: list[list[int]] = [[] for _ in range(hands)]
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        hand = min(range(hands), key=held.__getitem__)
        held[hand] += sizes[i]
        dealt[hand].append(i)
    return [sorted(mine) for mine in dealt]


def gathered(tensor: Tensor) -> Tensor:
    """Return a tensor with all its shards; if it has some, all processes must ask."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def here(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process has: the same memory, all of it where nothing is sharded."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def sharded_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Return a whole tensor that every process has on the other's device, sharded as that one is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(other, DTensor):
        return tensor.to(other.device)
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements, src_data_rank=None)


def _shard(model: PreTrainedModel) -> None:
    """Shard a model's layers, and what is left of it, over all processes (FSDP2)."""
    from torch.distributed.fsdp import fully_shard

    from tunesmith.models.quantised import is_quantised
    from tunesmith.training.fit import blocks

    if is_quantised(model):
        raise TrainingError(
            "weights in 4 bits cannot be sharded",
            hint="Start without FSDP: they are small enough for each GPU.",
        )
    again = os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "").lower() != "false"
    for layer in blocks(model):
        fully_shard(layer, reshard_after_forward=again)
    # Also the rest: what a look at the validation loss gathers must not stay, as it would by default.
    fully_shard(model, reshard_after_forward=again)


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[Tensor]]:
    """Yield the gradients in lists of BUCKET values at most, a larger one alone; where none came, it is zero."""
    import torch

    bucket: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if bucket and sum(each.numel() for each in bucket) + parameter.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(parameter.grad)
    if bucket:
        yield bucket


def _refuse(rules: Iterable[tuple[str, tuple[str, ...], str, str]]) -> None:
    for variable, fine, why, hint in rules:
        value = os.environ.get(variable, "")
        if value.lower() not in fine:
            raise UsageError(f"{why} ({variable}={value})", hint=hint)


def _asked(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("true", "1")


def _elsewhere(rank: int, failure: _Failure) -> TrainingError:
    return TrainingError(f"process {rank} of this run has failed: {failure.text}")


@contextmanager
def _heard() -> Iterator[None]:
    """Say of a message that could not be passed what that means."""
    try:
        yield
    except RuntimeError as error:
        from tunesmith.training.engine import out_of_memory

        if out_of_memory(error):
            # Not to be tried again in smaller parts: the others wait for this message.
            raise TrainingError(
                "memory ran out while gradients were summed over the processes",
                hint="Lower max_length in [train], or shard the weights (docs/several-machines.md).",
            ) from error
        raise TrainingError(
            "another process of this run has ended, or is not heard of any more",
            hint="What it said last tells why. Start all again: the run goes on from its last checkpoint.",
        ) from error
