"""What a step makes smaller: the loss of answers or of raw text, or that of a preference over its opposite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from tunesmith.training.loop import Batch, Layout, text_losses, token_losses
from tunesmith.training.render import Pair, Rendered

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Row_contra = TypeVar("Row_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Part:
    """What is computed at once: a batch, what it counts in the step's mean, and the untrained model's margins.

    `weight` is 0 for a part that is computed only because other processes compute one.
    """

    batch: Batch
    counts: int
    margins_P: Tensor | None = None
    weight: float = 1.0


class Objective(Protocol[Row_contra]):
    """A loss that is a sum over rows, to be divided by what the step counts."""

    def texts(self, row: Row_contra) -> tuple[Rendered, ...]:
        """Return the texts of a row."""
        ...

    def parts(self, rows: Sequence[Row_contra], layout: Layout) -> list[Part]:
        """Return rows as parts small enough to be computed at once."""
        ...

    def loss(self, model: PreTrainedModel, part: Part) -> Tensor:
        """Return the part's summed loss."""
        ...


class Likelihood:
    """The cross-entropy of the labelled tokens: of answers, or of all words of a text."""

    def texts(self, row: Rendered) -> tuple[Rendered, ...]:
        """Return the row itself."""
        return (row,)

    def parts(self, rows: Sequence[Rendered], layout: Layout) -> list[Part]:
        """Return rows as parts small enough to be computed at once."""
        batches = [layout.batch([rows[i] for i in group]) for group in layout.groups([(r,) for r in rows])]
        return [Part(batch, batch.labels) for batch in batches]

    def loss(self, model: PreTrainedModel, part: Part) -> Tensor:
        """Return the part's summed cross-entropy, in nats."""
        return token_losses(model, part.batch).sum()


class Dpo:
    """Direct preference optimisation: -log sigmoid(beta x (how far the margin grew past the untrained model's)).

    Rafailov et al. 2023, "Direct Preference Optimization" (arXiv:2305.18290), equation 7.
    """

    def __init__(self, beta: float) -> None:
        self.beta = beta

    def texts(self, row: Pair) -> tuple[Rendered, ...]:
        """Return both texts, the preferred one first."""
        return (row.chosen, row.rejected)

    def parts(self, rows: Sequence[Pair], layout: Layout) -> list[Part]:
        """Return pairs as parts small enough to be computed at once; the texts of a pair stay together."""
        parts = []
        for group in layout.groups([self.texts(row) for row in rows]):
            pairs = [rows[i] for i in group]
            batch = layout.batch([text for pair in pairs for text in self.texts(pair)])
            margins = torch.tensor([pair.margin for pair in pairs], device=batch.ids_B_T.device)
            parts.append(Part(batch, len(pairs), margins))
        return parts

    def loss(self, model: PreTrainedModel, part: Part) -> Tensor:
        """Return the part's summed loss."""
        if part.margins_P is None:
            raise TypeError("a part of preferences has the untrained model's margins")
        grown_P = margins(model, part) - part.margins_P
        return -functional.logsigmoid(self.beta * grown_P).sum()


def margins(model: PreTrainedModel, part: Part) -> Tensor:
    """Return by how much likelier each preferred answer is than the rejected one, in nats (shape: pairs)."""
    losses_P_2 = text_losses(model, part.batch, 2 * part.counts).view(-1, 2)
    return losses_P_2[:, 1] - losses_P_2[:, 0]


def with_margins(model: PreTrainedModel, pairs: Sequence[Pair], layout: Layout) -> tuple[Pair, ...]:
    """Return the pairs with the margins that the model, not yet trained, gives them."""
    objective = Dpo(beta=1.0)
    found: list[Pair] = []
    with torch.no_grad():
        for pair in pairs:
            [part] = objective.parts([pair], layout)
            found.append(replace(pair, margin=float(margins(model, part)[0])))
    return tuple(found)
