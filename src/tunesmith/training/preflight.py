"""Prove, before the first step, that training would teach what it should.

Each check raises TrainingError with the row and the reason. This is the beginning of the contract; what is not yet
proved here: that batching isolates samples on every attention implementation, and that each setting is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunesmith.errors import TrainingError
from tunesmith.models.local import end_of_turn_ids
from tunesmith.training.render import Rendered

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def check(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Rendered],
    valid: Sequence[Rendered],
) -> None:
    """Check rows and model; called on the model as it was loaded, before adapters are put on it."""
    check_rows(tokenizer, rows, "training")
    check_rows(tokenizer, valid, "validation")
    check_loss(model, rows)


def check_rows(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Rendered], what: str) -> None:
    """Check that there are rows, and that each has a label, a labelled end of turn, and one BOS at most."""
    if not rows:
        raise TrainingError(
            f"there is no {what} example",
            hint="Curate more examples, or hold out a larger valid_share in [curate].",
        )
    ends = end_of_turn_ids(tokenizer)
    bos = tokenizer.bos_token_id
    for number, row in enumerate(rows, 1):
        if row.labelled == 0:
            raise TrainingError(
                f"{what} example {number} has no labelled token: nothing would be learned from it",
                hint="Its answer is empty, or was cut off by max_length in [train].",
            )
        if not any(labelled and token in ends for token, labelled in zip(row.ids, row.mask, strict=True)):
            raise TrainingError(
                f"{what} example {number} has no labelled end of turn: the model would learn never to stop",
                hint="Raise max_length in [train], or shorten the example.",
            )
        if bos is not None and bos not in ends and row.ids[:2] == (bos, bos):
            raise TrainingError(
                f"{what} example {number} begins with two BOS tokens",
                hint="The chat template writes one already; the tokenizer must not add another.",
            )


def check_loss(model: PreTrainedModel, rows: Sequence[Rendered]) -> None:
    """Check on one row that our logits, from the output projection alone, and our loss are the model's own.

    A model that scales or caps its logits outside the output projection would differ, and is refused. The logits are
    compared to their own size: a loss alone hardly shows a scale while the logits are small.
    """
    import torch

    from tunesmith.training.loop import collate, token_losses

    row = min(rows, key=lambda each: len(each.ids))
    batch = collate([row], 0, model.device)
    labels = batch.ids_B_T.masked_fill(~batch.labelled_B_T, -100)
    with torch.no_grad():
        ours = float(token_losses(model, batch).mean())
        hidden_B_T_D = model.base_model(input_ids=batch.ids_B_T, use_cache=False).last_hidden_state
        logits_B_T_V = model.get_output_embeddings()(hidden_B_T_D).float()
        whole = model(input_ids=batch.ids_B_T, labels=labels, use_cache=False)
        own, own_B_T_V = float(whole.loss), whole.logits.float()
    apart = float((logits_B_T_V - own_B_T_V).norm()) > 0.02 * float(own_B_T_V.norm())
    if apart or abs(ours - own) > 0.02 * max(1.0, abs(own)):
        raise TrainingError(
            f"{type(model).__name__} has other logits than its output projection gives (its loss {own:.4f}, "
            f"ours {ours:.4f})",
            hint="This model family does more than project its hidden states; it is not supported yet.",
        )
