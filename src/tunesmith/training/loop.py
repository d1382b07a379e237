"""The inner loop: batches of like length, the loss where labels are, one optimiser step.

The sum of token losses over a step is divided by the number of labelled tokens in the step, so a batch of N and N
accumulated batches of one have the same gradient.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from tunesmith.models.attention import use_short_attention
from tunesmith.training.render import Rendered

if TYPE_CHECKING:
    from transformers import PreTrainedModel


# Memory grows with a part: eight rows of 300 tokens at once brought a run to 5.1 GiB (docs/log.md).
PART_TOKENS = 2048
# oneDNN keeps code and room for every shape that it has met: parts of any width let memory grow step by step.
WIDTHS = 16


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded rows of ids, which of them are real, and which the loss counts."""

    ids_B_T: Tensor
    real_B_T: Tensor
    labelled_B_T: Tensor

    @property
    def tokens(self) -> int:
        """Real tokens, padding left out."""
        return int(self.real_B_T.sum())


def collate(
    rows: Sequence[Rendered], pad: int, device: torch.device | str = "cpu", *, multiple: int = 1
) -> Batch:
    """Return the rows as one right-padded batch, as wide as the next `multiple` of tokens."""
    width = _rounded(max(len(row.ids) for row in rows), multiple)
    ids = torch.full((len(rows), width), pad)
    real = torch.zeros(len(rows), width, dtype=torch.long)
    labelled = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        real[i, : len(row.ids)] = 1
        labelled[i, : len(row.ids)] = torch.tensor(row.mask)
    return Batch(ids.to(device), real.to(device), labelled.to(device))


def in_parts(rows: Sequence[Rendered], pad: int, device: torch.device | str = "cpu") -> list[Batch]:
    """Return one step's rows as batches of at most PART_TOKENS each, padding counted (a longer row stands alone).

    Memory hangs on the largest part, and the loss does not hang on how a step is cut.
    """
    parts: list[list[Rendered]] = []
    for row in sorted(rows, key=lambda row: len(row.ids)):
        # Sorted, so that a part is as wide as the row that comes next.
        if parts and (len(parts[-1]) + 1) * _rounded(len(row.ids), WIDTHS) <= PART_TOKENS:
            parts[-1].append(row)
        else:
            parts.append([row])
    return [collate(part, pad, device, multiple=WIDTHS) for part in parts]


def _rounded(tokens: int, multiple: int) -> int:
    return -(-tokens // multiple) * multiple


def plan_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the row numbers of each batch of an epoch: shuffled, but rows of like length together.

    The order depends on seed and epoch alone, so that a resumed run goes on with the very same batches.
    """
    order = list(range(len(lengths)))
    shuffle = random.Random(f"{seed}:{epoch}").shuffle
    shuffle(order)
    window = batch_size * 16
    batches = []
    for start in range(0, len(order), window):
        near = sorted(order[start : start + window], key=lambda row: lengths[row])
        batches += [near[i : i + batch_size] for i in range(0, len(near), batch_size)]
    shuffle(batches)
    return batches


def token_losses(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return the cross-entropy of each labelled token, in nats, row after row (shape: labelled tokens).

    The output projection sees only the hidden states that a label follows.
    """
    # No attention mask: padding stands to the right, where causal attention never looks from a real token.
    hidden_B_T_D = model.base_model(input_ids=batch.ids_B_T, use_cache=False).last_hidden_state
    wanted_B_T = batch.labelled_B_T[:, 1:]
    hidden_N_D = hidden_B_T_D[:, :-1][wanted_B_T]
    logits_N_V = model.get_output_embeddings()(hidden_N_D).float()
    return functional.cross_entropy(logits_N_V, batch.ids_B_T[:, 1:][wanted_B_T], reduction="none")


def learning_rate(step: int, *, steps: int, peak: float, warmup: int) -> float:
    """Return the rate of a step (from 0): linear warm-up, then half a cosine down to a twentieth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def train_step(
    model: PreTrainedModel,
    optimiser: torch.optim.Optimizer,
    parts: Sequence[Batch],
    *,
    rate: float,
    clip: float,
) -> float:
    """Take one optimiser step over accumulated parts; returns the mean loss per labelled token, in nats.

    The caller checks that the loss is finite: a step with a loss that is not changes nothing.
    """
    use_short_attention(model)
    labelled = sum(int(part.labelled_B_T[:, 1:].sum()) for part in parts)
    total = 0.0
    for part in parts:
        loss = token_losses(model, part).sum() / labelled
        total += float(loss.detach())
        loss.backward()  # type: ignore[no-untyped-call]
    if math.isfinite(total):
        trained = [p for group in optimiser.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(trained, clip)
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return total


def mean_loss(model: PreTrainedModel, batches: Sequence[Batch]) -> float:
    """Return the mean loss per labelled token in nats, learning nothing."""
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in batches:
            losses = token_losses(model, batch)
            total += float(losses.sum())
            count += losses.numel()
    return total / max(1, count)
