"""The proof: it passes what is whole, and each planted fault is refused by the right name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.exporting.conftest import END, TEMPLATE, Fault, NewFolder, order, plant

from tunesmith.errors import ParityError
from tunesmith.exporting.engines import LlamaCpp, Step, Transformers, rounding
from tunesmith.exporting.export import export
from tunesmith.exporting.gguf import Precision, as_neighbours, round_as
from tunesmith.exporting.merge import load_whole
from tunesmith.exporting.parity import FLOOR, Parity, Trial, distance, prove, replay, write_script
from tunesmith.exporting.prompts import QUESTIONS
from tunesmith.models.address import Place
from tunesmith.models.local import end_of_turn_ids, load_tokenizer
from tunesmith.records import Message

Try = Callable[[Fault], Parity]


@pytest.fixture
def attempt(new_folder: NewFolder, tmp_path: Path, request: pytest.FixtureRequest) -> Try:
    """Return a function that plants a fault in a model's GGUF file and holds llama.cpp with it to the model.

    The file is f16 unless the test is parametrised with another precision.
    """
    precision: Precision = getattr(request, "param", "f16")
    folder = new_folder()
    export(order(folder, "gguf", precision, proved=False), tmp_path / "whole")
    model = Transformers(load_whole(Place(folder)), tokenizer := load_tokenizer(folder))
    conversations = [(Message("user", question),) for question in QUESTIONS[:12]]
    script = write_script(model, conversations, end_of_turn_ids(tokenizer))
    tuned = replay(model, script)
    round_as(model._model, precision)
    reference = replay(model, script)
    with rounding(model._model, precision):
        disturbed = replay(model, script)
    trial = Trial(precision, model, script, tuned, reference, disturbed)

    def run(fault: Fault) -> Parity:
        path = plant(tmp_path / "whole" / "model.gguf", fault, tmp_path / "faulty.gguf")
        return prove(LlamaCpp(path, context=256), trial)

    return run


def test_a_whole_file_is_proved(attempt: Try) -> None:
    """A copy without a fault passes; what was found stays within what its precision explains."""
    parity = attempt(Fault({}))
    assert (parity.precision, parity.prompts) == ("f16", 12)
    assert 0 < parity.found.largest <= parity.allowed.largest
    assert parity.allowed.typical < 0.1
    assert all(each.margin <= 2 * parity.allowed.largest for each in parity.divergences)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"tokenizer.ggml.eos_token_id": 0}, rf"does not stop after '{END.replace('|', '[|]')}'"),
        ({"tokenizer.ggml.pre": "smollm"}, "the export's tokenizer reads 'In 2024, 1234567 people"),
        (
            {"tokenizer.chat_template": TEMPLATE.replace("assistant\n", "model\n")},
            "the export's chat template reads 'What is a graph",
        ),
        (
            {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": 0},
            "the export's chat template reads 'What is a graph",
        ),
    ],
    ids=["end", "splitting", "template", "beginning"],
)
def test_another_reading_is_refused(attempt: Try, keys: Mapping[str, Any], why: str) -> None:
    """A wrong end of turn, splitting rule, chat template or token in front is named, with the first difference."""
    with pytest.raises(ParityError, match=why) as refused:
        attempt(Fault(keys))
    assert "--no-parity" in str(refused.value.hint)


def _unturned(name: str, values: Any) -> Any:
    import torch

    if not name.endswith("attn_q.weight"):
        return values
    rows = torch.arange(len(values))
    back = torch.argsort(as_neighbours(rows, 4))
    return values[back.numpy()]


def _one_row(name: str, values: Any) -> Any:
    if name == "blk.1.ffn_down.weight":
        values = values.copy()
        values[7] *= 1.5
    return values


def _nan(name: str, values: Any) -> Any:
    return np.where(values == values.max(), np.nan, values) if name == "blk.0.ffn_up.weight" else values


@pytest.mark.parametrize("change", [_unturned, _one_row], ids=["permutation", "one row"])
def test_other_weights_are_refused(attempt: Try, change: Callable[[str, Any], Any]) -> None:
    """A missing rotary permutation, or one disturbed row, drifts beyond what f16 explains, and is shown."""
    with pytest.raises(ParityError, match="drifts beyond what f16 explains") as refused:
        attempt(Fault({}, change))
    assert "First divergence: token" in refused.value.message


@pytest.mark.parametrize("attempt", ["q8_0"], indirect=True)
def test_a_missing_permutation_is_refused_in_8_bits(attempt: Try) -> None:
    """Where rounding explains much, queries in the wrong order are still beyond it; a whole file is not."""
    assert attempt(Fault({})).precision == "q8_0"
    with pytest.raises(ParityError, match="drifts beyond what q8_0 explains"):
        attempt(Fault({}, _unturned))


def test_a_weight_that_is_no_number_is_refused(attempt: Try) -> None:
    """Where the engine's logits are no numbers, nothing that it says passes."""
    with pytest.raises(ParityError):
        attempt(Fault({}, _nan))


def test_a_wrong_rotary_base_is_refused(attempt: Try) -> None:
    """A number in the header that changes the graph shows in the words."""
    with pytest.raises(ParityError, match="drifts beyond"):
        attempt(Fault({"llama.rope.freq_base": 700.0}))


def test_a_template_that_llama_cpp_cannot_render_is_named(attempt: Try) -> None:
    """A template that fails in llama.cpp is an error with its words, not a traceback."""
    with pytest.raises(
        ParityError, match=r"llama\.cpp (answers /apply-template with \d+: .*no such|does not load)"
    ):
        attempt(Fault({"tokenizer.chat_template": "{{ raise_exception('no such') }}"}))


def test_a_file_that_llama_cpp_does_not_load_is_named(attempt: Try) -> None:
    """A header that does not fit the tensors is refused by llama.cpp, and the error says so."""
    with pytest.raises(ParityError, match=r"llama\.cpp does not load faulty\.gguf"):
        attempt(Fault({"llama.block_count": 5}))


def _step(*logprobs: float) -> Step:
    listed = dict(enumerate(logprobs))
    return Step(max(listed, key=lambda token: listed[token]), listed)


def test_distance_is_that_of_the_likeliest_tokens() -> None:
    """The largest gap of each step counts, over eight tokens; the whole is the root of their mean square."""
    first, second = _step(-0.1, -3.0), _step(*(-float(token) for token in range(1, 12)))
    other = _step(-0.1, -3.3), Step(0, {token: -float(token + 1) for token in range(8)})
    found = distance(((first,), (second,)), ((other[0],), (other[1],)))
    assert found.largest == pytest.approx(0.3)
    assert found.typical == pytest.approx(0.3 / 2**0.5)


@given(st.lists(st.floats(-20, 0), min_size=2, max_size=20))
def test_nothing_is_at_no_distance_from_itself(logprobs: list[float]) -> None:
    """The same replay twice is at distance zero, which is below the floor."""
    assert distance(((_step(*logprobs),),), ((_step(*logprobs),),)).largest == 0.0 < FLOOR


@pytest.mark.parametrize("missing", [float("nan"), float("-inf")])
def test_what_is_no_number_is_infinitely_far(missing: float) -> None:
    """An engine whose logits broke is never near."""
    other = Step(0, {0: missing, 1: missing})
    assert distance(((_step(-0.1, -2.0),),), ((other,),)).largest == float("inf")
