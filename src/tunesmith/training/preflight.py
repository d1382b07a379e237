"""Prove, before the first step, that training would teach what it should, on the actual data, model and settings.

Each check raises TrainingError with the row and the reason. The rows: (a) something to learn in each, (b) every end of
turn labelled, (c) the labels spell the assistant's words, (d) one BOS at most, and the prompt as serving renders it.
The model: its own loss is ours, (e) a text's loss does not hang on its neighbours, (f) nor the gradient on how a batch
is cut, (g) a step changes what is trained and nothing else. The settings: (h) each that was given has been read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunesmith.errors import RowError, TrainingError
from tunesmith.models.local import end_of_turn_ids, prompt_ids
from tunesmith.records import Conversation
from tunesmith.training.ranks import gathered, here
from tunesmith.training.render import Rendered
from tunesmith.training.settings import TrainSettings

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tunesmith.training.engine import Engine

# The first rows are also rendered once more as serving would, which costs as much again.
SERVED = 100
# Two ways to the same sum differ by rounding: bfloat16 keeps 8 bits.
_ROUNDING = {"torch.float32": 1e-3, "torch.float16": 1e-2, "torch.bfloat16": 4e-2}


class RowChecks:
    """Checks (a) to (d), called with each example as it is rendered, before it is cut."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, what: str) -> None:
        self.tokenizer, self.what = tokenizer, what
        self.ends = end_of_turn_ids(tokenizer)

    def __call__(self, number: int, prompt: Conversation, words: tuple[str, ...], row: Rendered) -> None:
        """Check one example: its number from 1, its prompt, the words to be learned and its row."""
        name = f"{self.what} example {number}"
        if row.labelled == 0:
            raise RowError(
                f"{name} has no labelled token: nothing would be learned from it",
                rule="answer",
                hint="Give it an answer, or take it out.",
            )
        self._check_beginning(name, row)
        stretches = labelled_stretches(row)
        if len(stretches) != len(words):
            raise RowError(
                f"{name} has {len(words)} turns of the assistant and {len(stretches)} labelled stretches",
                rule="turns",
                hint="The chat template may leave turns out, or run them together.",
            )
        for (start, end), turn in zip(stretches, words, strict=True):
            self._check_turn(name, row.ids[:start], row.ids[start:end], turn)
        if number <= SERVED:
            self._check_served(name, prompt, row.ids[: stretches[-1][0]])

    def _check_beginning(self, name: str, row: Rendered) -> None:
        bos = self.tokenizer.bos_token_id
        if bos is not None and bos not in self.ends and row.ids[:2] == (bos, bos):
            raise RowError(
                f"{name} begins with two BOS tokens",
                rule="beginning",
                hint="The chat template writes one already; the tokenizer must not add another.",
            )

    def _check_turn(self, name: str, before: tuple[int, ...], said: tuple[int, ...], words: str) -> None:
        if said[-1] not in self.ends:
            raise RowError(
                f"{name} has no labelled end of turn: the model would learn never to stop",
                rule="end of turn",
                hint="Set the tokenizer's eos_token to the token that its chat template writes after a turn.",
            )
        # Decoded with what stands before, for some tokenizers drop the space that a text begins with.
        whole, begun = (self.tokenizer.decode(ids) for ids in ((*before, *said[:-1]), before))
        learned = whole.removeprefix(begun)
        if learned.strip() != words.strip() and _letters(learned) != _letters(words):
            raise RowError(
                f"{name} would teach other words than the assistant's: {learned[:60]!r} for {words[:60]!r}",
                rule="words",
                hint="The chat template or the tokenizer changes them: train with a template that leaves them alone.",
            )

    def _check_served(self, name: str, prompt: Conversation, ids: tuple[int, ...]) -> None:
        if prompt_ids(self.tokenizer, prompt) != ids:
            raise RowError(
                f"{name} has another prompt in training than in serving",
                rule="prompt",
                hint="The chat template renders a conversation differently once it goes on.",
            )


def labelled_stretches(row: Rendered) -> list[tuple[int, int]]:
    """Return where each run of labelled tokens begins and ends."""
    edges = [i for i, (a, b) in enumerate(zip((False, *row.mask), (*row.mask, False), strict=True)) if a != b]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _letters(text: str) -> str:
    # Decoding may set or drop spaces about special tokens, and some vocabularies know no line break.
    return "".join(text.split())


def check_sets(train: Sequence[Any], valid: Sequence[Any] | None) -> None:
    """Check that there is something to train on, and to validate with unless nothing is to be (None)."""
    for rows, what in ((train, "training"), (valid, "validation")):
        if rows is not None and not rows:
            raise TrainingError(
                f"there is no {what} example",
                hint="Curate more examples, or hold out a larger valid_share in [curate].",
            )


def check_model(engine: Engine, rows: Sequence[Any]) -> None:
    """Check the model and how it is trained on some short rows; afterwards all is as it was."""
    some = sorted(rows[:256], key=lambda row: sum(len(text.ids) for text in engine.objective.texts(row)))[:4]
    texts = [text for row in some for text in engine.objective.texts(row)]
    check_loss(engine, texts[0])
    check_isolation(engine, texts)
    check_cutting(engine, some)
    check_step(engine, some)


def check_loss(engine: Engine, text: Rendered) -> None:
    """Check on one text that our loss is the model's own, as it computes it from labels."""
    import torch

    from tunesmith.training.loop import token_losses

    batch = replace(engine.layout, packed=False).batch([text])
    labels = batch.ids_B_T.masked_fill(~batch.labelled_B_T, -100)
    with torch.no_grad(), engine.arithmetic():
        ours = float(token_losses(engine.model, batch).mean())
        own = float(engine.model(input_ids=batch.ids_B_T, labels=labels, use_cache=False).loss)
    if not math.isfinite(own):
        raise TrainingError(
            f"the loss of {type(engine.model).__name__} is {own} before any training",
            hint="The base model itself is broken: fetch it again, or take another.",
        )
    if not abs(ours - own) <= _rounding(engine) * max(1.0, abs(own)):
        raise TrainingError(
            f"{type(engine.model).__name__} computes another loss than ours: {own:.4f}, ours {ours:.4f}",
            hint="This model family does something with its hidden states that is not supported yet.",
        )


def check_isolation(engine: Engine, texts: Sequence[Rendered]) -> None:
    """Check that a text's loss in a batch is what it is alone, and stays so when its neighbours change.

    Texts that cannot be packed here are padded instead, which is said.
    """
    if engine.layout.packed and not _are_isolated_packed(engine, texts):
        engine.layout = replace(engine.layout, packed=False)
        engine.say("texts are padded side by side: packed behind one another they would see each other here")
    moved, allowed = _moved(engine, texts)
    if not moved <= allowed:
        raise TrainingError(
            f"a text's loss moves by {moved:.3g} nats when its neighbours in the batch change: "
            f"{type(engine.model).__name__} with {engine.model.config._attn_implementation} attention lets texts see "
            "each other",
            hint="This model cannot be trained in batches; take another base.",
        )


def _are_isolated_packed(engine: Engine, texts: Sequence[Rendered]) -> bool:
    from tunesmith.training.engine import out_of_memory

    try:
        moved, allowed = _moved(engine, texts)
    except RuntimeError as error:
        # Such as a kernel that this GPU does not have.
        if out_of_memory(error):
            raise
        return False
    return moved <= allowed


def _moved(engine: Engine, texts: Sequence[Rendered]) -> tuple[float, float]:
    """Return by how much a text's losses move at most in company, and how much rounding explains, in nats."""
    import torch

    from tunesmith.training.loop import token_losses

    last, *others = texts[:3] if len(texts) > 1 else [texts[0], texts[0]]
    turned = [Rendered(tuple(reversed(text.ids)), text.mask) for text in others]
    with torch.no_grad(), engine.arithmetic():
        # Behind the others: a text that begins a row sees nothing before it, whatever attention does.
        alone, beside, beside_turned = (
            token_losses(engine.model, engine.layout.batch([*batch, last]))[-last.labelled :]
            for batch in ([], others, turned)
        )
    moved = max(float((each - alone).abs().max()) for each in (beside, beside_turned))
    return moved, _rounding(engine) * max(1.0, float(alone.abs().max()))


def check_cutting(engine: Engine, rows: Sequence[Any]) -> None:
    """Check that loss and gradient of a batch are the same when it is computed row by row."""
    kept = engine.layout
    found = []
    try:
        for limit in (kept.limit, 1):
            engine.layout = replace(kept, limit=limit)
            loss = engine.gradient(rows)
            found.append((loss, [p.grad.detach().clone() for p in engine.parameters if p.grad is not None]))
            engine.clear()
    finally:
        engine.layout = kept
    (whole, grads), (by_row, grads_by_row) = found
    apart, size = _distance(grads, grads_by_row)
    rounding = _rounding(engine)
    if not abs(whole - by_row) <= rounding * max(1.0, abs(whole)) or not apart <= 4 * rounding * size:
        raise TrainingError(
            f"a batch has another loss or gradient than its rows one by one: loss {whole:.5f} and {by_row:.5f}, "
            f"gradients {apart / max(size, 1e-30):.1%} apart",
            hint="The loss must be summed over tokens and divided once; this is a fault of the training loop.",
        )


def check_step(engine: Engine, rows: Sequence[Any]) -> None:
    """Check that one optimiser step changes the trained weights and nothing else, and take it back."""
    import torch

    before = [here(parameter.detach()).cpu().clone() for parameter in engine.parameters]
    trained = {id(parameter) for parameter in engine.parameters}
    frozen = {name: value for name, value in _tensors(engine.model) if id(value) not in trained}
    digests = {name: _digest(value) for name, value in frozen.items()}
    engine.step(rows, rate=1e-3)
    changed = [name for name, value in frozen.items() if _digest(value) != digests[name]]
    after = [here(parameter.detach()) for parameter in engine.parameters]
    same = all(torch.equal(old, new.cpu()) for old, new in zip(before, after, strict=True))
    for old, new in zip(before, after, strict=True):
        new.copy_(old)
    engine.forget()
    if changed:
        raise TrainingError(
            f"a training step changed weights that should stay: {', '.join(changed[:3])}",
            hint="They are not the adapter's; this is a fault of the model's code or of the training loop.",
        )
    # Of a small sharded weight some processes may hold nothing.
    if all(engine.ranks.everyone(lambda: same)):
        raise TrainingError(
            "a training step changed nothing",
            hint="No gradient reaches what is trained; see top_layers in [train].",
        )


def check_settings(settings: TrainSettings) -> None:
    """Check that every setting that was given has been read."""
    unread = settings.unread()
    if unread:
        raise TrainingError(
            f"nothing has read {', '.join(unread)} of [train], so it would change nothing",
            hint="Take it out, or say how it was meant to be used.",
        )


def _rounding(engine: Engine) -> float:
    return _ROUNDING.get(str(engine.autocast or engine.model.dtype), 4e-2)


def _distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> tuple[float, float]:
    """Return the length of the difference of two lists of tensors, and that of the first."""
    apart = sum(_square(x - y) for x, y in zip(a, b, strict=True))
    return math.sqrt(apart), math.sqrt(sum(map(_square, a)))


def _square(x: Tensor) -> float:
    return float(gathered(x.float().square().sum()))


def _tensors(model: PreTrainedModel) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _digest(value: Tensor) -> tuple[float, float]:
    """Return two sums over a tensor that no change leaves both as they were, but for rare chance."""
    import torch

    flat = here(value.detach()).reshape(-1)
    if flat.dtype.is_floating_point:
        flat = torch.nan_to_num(flat)
    total, squares = 0.0, 0.0
    for piece in torch.split(flat, 2**22):
        exact = piece.double()
        weights = torch.arange(1, len(exact) + 1, dtype=torch.double, device=exact.device)
        total += float(exact.sum())
        squares += float(exact @ weights)
    return total, squares
