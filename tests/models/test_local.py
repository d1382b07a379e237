"""A model in this process: batches, streams, stops, seeds, constraints, and what cannot be loaded."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from tunesmith.errors import ModelError
from tunesmith.models import local, template
from tunesmith.models.base import ChatModel, Sampling
from tunesmith.models.cache import new_cache
from tunesmith.models.local import (
    LocalModel,
    end_of_turn_ids,
    fast_dtype,
    load_model,
    load_tokenizer,
    prompt_ids,
)
from tunesmith.records import Answer, Conversation, Message

SYSTEM = Message("system", "You know the shortest path, and whom to ask for it.")


def asked(*questions: str, system: bool = False) -> list[Conversation]:
    """Return a conversation for each question."""
    first = (SYSTEM,) if system else ()
    return [(*first, Message("user", question)) for question in questions]


QUESTIONS = (
    "where is it?",
    "is it",
    "find the shortest path by this function " * 3,
    "?",
    "é → 日本",
    "a b c",
)


@pytest.fixture(scope="module")
def model(new_chat_model: Any, chat_tokenizer: PreTrainedTokenizerFast) -> LocalModel:
    """Return the tiny chat model as one that answers, in batches of four at most."""
    return LocalModel(new_chat_model(), chat_tokenizer, name="tiny", batch_size=4)


def untimed(answers: list[Answer]) -> list[Answer]:
    """Return the answers without their seconds."""
    return [replace(answer, seconds=0.0) for answer in answers]


def greedy(model: LocalModel, conversation: Conversation, count: int) -> list[int]:
    """Return the likeliest tokens one by one, each from a fresh reading of all that stands before it."""
    ids = list(prompt_ids(model.tokenizer, conversation))
    start = len(ids)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[start:]


@pytest.mark.parametrize("slices", [1, 40, 2048])
@pytest.mark.parametrize("system", [False, True], ids=["own beginnings", "one beginning"])
def test_company_does_not_change_an_answer(
    model: LocalModel, system: bool, slices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a batch, alone, and by reading everything anew at each step: the same answers, in order.

    That holds however many tokens are read at a time.
    """
    monkeypatch.setattr(local, "_READ_TOKENS", slices)
    conversations = asked(*QUESTIONS, system=system)
    sampling = Sampling(max_tokens=24)
    together = model.reply(conversations, sampling)
    alone = [model.reply([conversation], sampling)[0] for conversation in conversations]
    assert untimed(together) == untimed(alone)
    assert len({answer.text for answer in together}) == len(QUESTIONS)
    for conversation, answer in zip(conversations, together, strict=True):
        assert answer.text == model.tokenizer.decode(
            greedy(model, conversation, 24)[: answer.completion_tokens], skip_special_tokens=True
        )
        assert answer.prompt_tokens == len(prompt_ids(model.tokenizer, conversation))
        assert answer.seconds > 0


def test_a_prompt_of_a_single_token_is_read_alone(model: LocalModel) -> None:
    """What is kept free behind it is not read: the logits are those of a reading without a cache."""
    ids, mask = torch.tensor([[5], [7]]), torch.ones(2, 1, dtype=torch.long)
    with torch.no_grad():
        expected = model.model(input_ids=ids).logits[:, -1]
        more = model.model(input_ids=torch.tensor([[5, 9], [7, 9]])).logits[:, -1]
    cache = new_cache(model.model)
    torch.testing.assert_close(model._forward(ids, mask, cache), expected, rtol=1e-4, atol=1e-5)
    again = model._forward(torch.tensor([[9], [9]]), torch.ones(2, 2, dtype=torch.long), cache)
    torch.testing.assert_close(again, more, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("system", [False, True], ids=["own beginnings", "one beginning"])
def test_a_window_of_attention_sees_no_padding(chat_tokenizer: PreTrainedTokenizerFast, system: bool) -> None:
    """A model whose layers look back a few tokens only: company and a common beginning change nothing."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(chat_tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=9,
        initializer_range=0.3,
    )
    windowed = LocalModel(MistralForCausalLM(config).eval(), chat_tokenizer, name="windowed")
    conversations = asked(*QUESTIONS, system=system)
    answers = windowed.reply(conversations, Sampling(max_tokens=16))
    for conversation, answer in zip(conversations, answers, strict=True):
        assert answer.text == chat_tokenizer.decode(
            greedy(windowed, conversation, 16)[: answer.completion_tokens], skip_special_tokens=True
        )


def test_equal_conversations_have_equal_answers(model: LocalModel) -> None:
    """A batch whose prompts are one and the same is no special case; neither is none at all."""
    [one] = model.reply(asked("where?", system=True), Sampling(max_tokens=8))
    many = model.reply(asked("where?", system=True) * 3, Sampling(max_tokens=8))
    assert untimed(many) == untimed([one] * 3)
    assert model.reply([], Sampling()) == []


def test_rows_that_stop_leave_the_others_alone(model: LocalModel) -> None:
    """Each answer ends after the first stop string in it; those without one go on to max_tokens."""
    conversations = asked(*QUESTIONS, system=True)
    free = model.reply(conversations, Sampling(max_tokens=24))
    # A piece from the middle of each of two answers, so that rows end at different times.
    stops = (free[0].text[6:8], free[4].text[12:15])
    stopped = model.reply(conversations, Sampling(max_tokens=24, stop=stops))
    for before, after in zip(free, stopped, strict=True):
        ends = [before.text.find(stop) + len(stop) for stop in stops if stop in before.text]
        assert after.text == before.text[: min(ends, default=len(before.text))]
        assert after.finish == ("stop" if ends else "length")
        assert after.completion_tokens <= before.completion_tokens
    assert {answer.finish for answer in stopped} == {"stop", "length"}


def test_the_end_of_turn_ends_an_answer_and_is_not_said(model: LocalModel) -> None:
    """A model whose generation config names a token as an end stops there; the token is not in the text."""
    [conversation] = asked("where is it?")
    ids = greedy(model, conversation, 12)
    at = next(i for i in range(3, 12) if ids[i] not in ids[:i])
    config = model.model.generation_config
    before = config.eos_token_id
    config.eos_token_id = [ids[at], 1]
    try:
        ending = LocalModel(model.model, model.tokenizer, name="ending")
        [answer] = ending.reply([conversation], Sampling(max_tokens=12))
    finally:
        config.eos_token_id = before
    assert answer.text == model.tokenizer.decode(ids[:at], skip_special_tokens=True)
    assert (answer.finish, answer.completion_tokens) == ("stop", at)


def test_max_tokens_are_kept(model: LocalModel) -> None:
    """An answer cut short says so."""
    [answer] = model.reply(asked("where is it?"), Sampling(max_tokens=5))
    assert (answer.completion_tokens, answer.finish) == (5, "length")
    [nothing] = model.reply(asked("where is it?"), Sampling(max_tokens=0))
    assert (nothing.text, nothing.completion_tokens, nothing.finish) == ("", 0, "length")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("stop", [(), ("never said by anybody",), ("\ufffd",), ("t",)])
def test_the_stream_is_the_reply_in_pieces(
    model: LocalModel, temperature: float, stop: tuple[str, ...]
) -> None:
    """Joined, the pieces are what reply says: with stop strings too, and where max_tokens cuts a character."""
    for question in QUESTIONS:
        for tokens in (1, 7, 20):
            sampling = Sampling(max_tokens=tokens, temperature=temperature, seed=2, stop=stop)
            [conversation] = asked(question)
            pieces = list(model.stream(conversation, sampling))
            assert "".join(pieces) == model.reply([conversation], sampling)[0].text
            assert all(pieces)


def test_a_stop_string_of_many_bytes_is_seen(model: LocalModel) -> None:
    """A stop string whose characters are three tokens each ends the answer, in a stream too, with no more said."""
    ids = model.tokenizer("日本語日本語 and more", add_special_tokens=False)["input_ids"]
    spelling = model.constrained(lambda _: Spelling(ids), "spelling")
    sampling = Sampling(max_tokens=60, stop=("語日本語",))
    [answer] = spelling.reply(asked("?"), sampling)
    assert (answer.text, answer.finish) == ("日本語日本語", "stop")
    assert answer.completion_tokens == len(ids) - len(
        model.tokenizer(" and more", add_special_tokens=False)["input_ids"]
    )
    pieces = list(spelling.stream(asked("?")[0], sampling))
    assert "".join(pieces) == "日本語日本語"
    assert not any("\ufffd" in piece for piece in pieces)
    assert len(pieces) > 1


def test_seeds_are_reproducible(model: LocalModel) -> None:
    """At temperature 1 the same seed says the same, alone or in company; another seed, and each row, another."""
    conversations = asked(*["where is it?"] * 3)
    first, again, other = (
        [answer.text for answer in model.reply(conversations, Sampling(12, temperature=1.0, seed=seed))]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert len({*first, *other}) == 6
    alone = model.reply(conversations[:1], Sampling(12, temperature=1.0, seed=1))
    assert [answer.text for answer in alone] == first[:1]


def test_temperature_flattens(model: LocalModel) -> None:
    """Near zero sampling says what greedy says; hot, it does not."""
    conversations = asked(*QUESTIONS)
    said = [
        [answer.text for answer in model.reply(conversations, Sampling(8, temperature=temperature))]
        for temperature in (0.0, 1e-4, 5.0)
    ]
    assert said[0] == said[1]
    assert not {*said[0]} & {*said[2]}


class Spelling:
    """A Constraint that lets one sequence of tokens pass and nothing else."""

    def __init__(self, ids: list[int]) -> None:
        self.left = list(ids)

    def allow(self, logits_V: torch.Tensor) -> None:
        """Forbid every token but the next."""
        kept = logits_V[self.left[0]].clone()
        logits_V.fill_(-torch.inf)
        logits_V[self.left[0]] = kept

    def advance(self, token: int) -> None:
        """Go on to the next token."""
        assert token == self.left.pop(0)

    def finished(self) -> bool:
        """Tell whether all has been spelt."""
        return not self.left


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_constraints_are_obeyed_each_its_own(model: LocalModel, temperature: float) -> None:
    """Each row of a batch says what its own constraint allows, and is finished when the constraint is."""
    words = {"a?": "path", "b?": "the longest function of them all", "c?": "x"}

    def spell(conversation: Conversation) -> Spelling:
        said = words[conversation[-1].content]
        return Spelling(model.tokenizer(said, add_special_tokens=False)["input_ids"])

    spelling = model.constrained(spell, "spelling")
    assert spelling.name == "spelling"
    assert isinstance(spelling, ChatModel)
    answers = spelling.reply(asked(*words), Sampling(max_tokens=40, temperature=temperature))
    assert [(answer.text, answer.finish) for answer in answers] == [(said, "stop") for said in words.values()]
    [cut] = spelling.reply(asked("b?"), Sampling(max_tokens=2, temperature=temperature))
    assert cut.finish == "length"
    assert words["b?"].startswith(cut.text)


def test_what_the_model_cannot_read_is_refused(model: LocalModel) -> None:
    """Prompt and answer together must fit; to the token, and with the way out."""
    [conversation] = asked("x" * 480)
    room = 512 - len(prompt_ids(model.tokenizer, conversation))
    assert 0 < room < 32
    [answer] = model.reply([conversation], Sampling(max_tokens=room))
    assert 0 < answer.completion_tokens <= room
    with pytest.raises(ModelError, match=rf"{room + 1} are asked for, but tiny reads at most 512") as caught:
        model.reply([conversation], Sampling(max_tokens=room + 1))
    assert "lower max_tokens" in (caught.value.hint or "")


def test_a_folder_is_loaded_with_an_adapter_merged(
    chat_folder: Path, new_chat_model: Any, chat_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Weights in the type that is asked for, or the faster; the adapter's update in them; ready to answer."""
    from tunesmith.training import lora

    tuned = new_chat_model()
    shape = lora.add_lora(tuned, rank=2, alpha=4, top_layers=None, seed=0)
    for parameter in lora.adapter_parameters(tuned).values():
        parameter.data.normal_(std=0.3)
    lora.save_adapter(tmp_path, lora.adapter_state(tuned), shape, "tiny")
    ids = torch.tensor([prompt_ids(chat_tokenizer, asked("where?")[0])])
    plain = load_model(chat_folder, dtype=torch.float32)
    merged = load_model(chat_folder, dtype=torch.float32, adapter=tmp_path)
    torch.testing.assert_close(plain(input_ids=ids).logits, new_chat_model()(input_ids=ids).logits)
    torch.testing.assert_close(
        merged(input_ids=ids).logits, tuned(input_ids=ids).logits, rtol=1e-3, atol=1e-3
    )
    assert not torch.allclose(plain(input_ids=ids).logits, merged(input_ids=ids).logits, atol=0.1)
    assert not merged.training
    assert load_model(chat_folder).dtype == fast_dtype()
    assert fast_dtype() in (torch.float32, torch.bfloat16, torch.float16)
    for path in tmp_path.glob("adapter_model*"):
        path.unlink()
    with pytest.raises(ModelError, match="holds no adapter"):
        load_model(chat_folder, adapter=tmp_path)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    """Neither tokenizer nor weights: errors that name the folder."""
    with pytest.raises(ModelError, match=f"{tmp_path} holds no tokenizer"):
        load_tokenizer(tmp_path)
    with pytest.raises(ModelError, match=f"{tmp_path} holds no causal language model"):
        load_model(tmp_path)


def test_a_tokenizer_gets_a_template_and_a_padding_token(chat_folder: Path, tmp_path: Path) -> None:
    """Without a padding token the end of turn pads; without a chat template there is the plain one."""
    assert end_of_turn_ids(load_tokenizer(chat_folder)) == {1}
    folder = tmp_path / "bare"
    shutil.copytree(chat_folder, folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    assert load_tokenizer(folder).pad_token_id == 1
    for path in folder.glob("chat_template*"):
        path.unlink()
    assert load_tokenizer(folder).chat_template == template.PLAIN
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="neither a chat template nor an end-of-text token"):
        load_tokenizer(folder)


def test_a_tokenizer_with_code_of_its_own_is_refused(chat_folder: Path, tmp_path: Path) -> None:
    """Nobody is asked at the terminal whether its code may run."""
    folder = Path(shutil.copytree(chat_folder, tmp_path / "own"))
    (folder / "mine.py").write_text("raise SystemExit", encoding="utf-8")
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    own = config | {
        "tokenizer_class": "MineTokenizer",
        "auto_map": {"AutoTokenizer": ["mine.MineTokenizer", None]},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(own), encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "mine"}', encoding="utf-8")

    with pytest.raises(ModelError, match="holds no tokenizer that transformers can read"):
        load_tokenizer(folder)
