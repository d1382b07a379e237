"""Answers over the wire, with the real SDK: chats, completions, embeddings, and the models that give them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
from openai import OpenAI

from tunesmith.models.base import Sampling
from tunesmith.models.local import LocalModel, load_model, load_tokenizer
from tunesmith.records import Message
from tunesmith.serving.options import Options

from .running import Running, serving

ASKED: Any = [{"role": "user", "content": "find the node"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "find_node",
        "description": "Find a node.",
        "parameters": {
            "type": "object",
            "properties": {"kind": {"enum": ["leaf", "root"]}, "depth": {"type": "integer", "maximum": 9}},
            "required": ["kind"],
            "additionalProperties": False,
        },
    },
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"word": {"type": "string", "maxLength": 5}, "yes": {"type": "boolean"}},
    "required": ["word", "yes"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, options: Options) -> Iterator[Running]:
    """A server that offers the tiny model."""
    with serving(tmp_path_factory.mktemp("server") / "home", options) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> OpenAI:
    """The SDK, asking that server."""
    return server.client


@pytest.fixture(scope="module")
def local(tiny: str) -> LocalModel:
    """The same model, without a server."""
    folder = Path(tiny.removeprefix("path:"))
    return LocalModel(load_model(folder), load_tokenizer(folder), name="tiny")


def said(local: LocalModel, *messages: Message, tokens: int = 12) -> str:
    """Return what the model says without a server."""
    [answer] = local.reply([messages], Sampling(max_tokens=tokens))
    return answer.text


def ask(client: OpenAI, **more: Any) -> Any:
    """Ask greedily unless told otherwise."""
    given = {"model": "tiny", "messages": ASKED, "temperature": 0, "max_tokens": 12} | more
    return client.chat.completions.create(**given)


def test_an_answer_is_what_the_model_says(client: OpenAI, local: LocalModel) -> None:
    answer = ask(client)
    assert answer.choices[0].message.content == said(local, Message("user", "find the node"))
    assert (answer.object, answer.model, answer.choices[0].message.role) == (
        "chat.completion",
        "tiny",
        "assistant",
    )
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    again = ask(client, model="gpt-3.5-turbo")
    assert (again.model, again.choices[0].message.content) == (
        "gpt-3.5-turbo",
        answer.choices[0].message.content,
    )


def test_a_beginning_that_was_read_before_is_told_as_cached(client: OpenAI) -> None:
    long = [{"role": "user", "content": "find the node and the edge of the tree in the soup of the cycle"}]
    first, second = ask(client, messages=long), ask(client, messages=long)
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert second.usage.prompt_tokens_details.cached_tokens == second.usage.prompt_tokens - 1


def test_system_and_developer_words_are_heard(client: OpenAI, local: LocalModel) -> None:
    for role in ("system", "developer"):
        answer = ask(client, messages=[{"role": role, "content": "the soup"}, *ASKED])
        expected = said(local, Message("system", "the soup"), Message("user", "find the node"))
        assert answer.choices[0].message.content == expected
    parts = [{"type": "text", "text": "find "}, {"type": "text", "text": "the node"}]
    assert ask(client, messages=[{"role": "user", "content": parts}]).choices[0].message.content == said(
        local, Message("user", "find the node")
    )


def test_a_stream_gives_the_same_answer_in_pieces(client: OpenAI) -> None:
    whole = ask(client, n=2, logprobs=True, top_logprobs=2)
    chunks = list(
        ask(client, n=2, stream=True, stream_options={"include_usage": True}, logprobs=True, top_logprobs=2)
    )
    for number in range(2):
        mine = [choice for chunk in chunks for choice in chunk.choices if choice.index == number]
        text = "".join(choice.delta.content or "" for choice in mine)
        assert text == whole.choices[number].message.content
        assert mine[0].delta.role == "assistant"
        assert [choice.finish_reason for choice in mine][-1] == whole.choices[number].finish_reason
        told = [each for choice in mine if choice.logprobs for each in choice.logprobs.content]
        assert [each.token for each in told] == [
            each.token for each in whole.choices[number].logprobs.content
        ]
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].choices == []


def test_sampling_is_seeded(client: OpenAI) -> None:
    def draw(seed: int) -> list[str]:
        return [choice.message.content for choice in ask(client, temperature=1.2, seed=seed, n=2).choices]

    assert draw(3) == draw(3)
    assert len({*draw(3), *draw(4), *draw(5)}) > 2


def test_stop_strings_and_lengths_end_answers(client: OpenAI) -> None:
    whole = ask(client, max_tokens=30).choices[0].message.content
    stop = whole[4:7]
    answer = ask(client, max_tokens=30, stop=[stop]).choices[0]
    assert (answer.message.content, answer.finish_reason) == (whole[: whole.index(stop)], "stop")
    assert ask(client, max_completion_tokens=2, max_tokens=None).usage.completion_tokens == 2


def test_a_named_tool_is_called_with_arguments_that_fit(client: OpenAI) -> None:
    for seed in range(3):
        answer = ask(
            client, tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "find_node"}},
            max_tokens=120, temperature=1.0, seed=seed,
        ).choices[0]  # fmt: skip
        [call] = answer.message.tool_calls
        assert (answer.finish_reason, answer.message.content, call.function.name) == (
            "tool_calls",
            None,
            "find_node",
        )
        jsonschema.validate(json.loads(call.function.arguments), WEATHER["function"]["parameters"])
    chunks = list(ask(client, tools=[WEATHER], tool_choice="required", max_tokens=120, stream=True))
    [streamed] = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    jsonschema.validate(json.loads(streamed.function.arguments), WEATHER["function"]["parameters"])
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_several_calls_are_made_where_that_is_asked_for(client: OpenAI) -> None:
    counts = set()
    for seed in range(6):
        wanted: dict[str, Any] = {
            "tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": True, "max_tokens": 150,
            "temperature": 1.0, "seed": seed,
        }  # fmt: skip
        choice = ask(client, **wanted).choices[0]
        if choice.finish_reason == "length":
            continue
        calls = choice.message.tool_calls
        counts.add(len(calls))
        assert len({call.id for call in calls}) == len(calls)
        for call in calls:
            jsonschema.validate(json.loads(call.function.arguments), WEATHER["function"]["parameters"])
        streamed = [
            call
            for chunk in ask(client, **wanted, stream=True)
            for call in chunk.choices[0].delta.tool_calls or ()
        ]
        assert [call.index for call in streamed] == list(range(len(calls)))
        assert [call.function.arguments for call in streamed] == [call.function.arguments for call in calls]
    assert max(counts) > 1


def test_where_a_tool_may_be_called_words_may_be_said(client: OpenAI) -> None:
    answers = [
        ask(client, tools=[WEATHER], temperature=1.0, seed=seed, max_tokens=60).choices[0]
        for seed in range(4)
    ]
    for answer in answers:
        if answer.message.tool_calls is None:
            assert not answer.message.content.startswith("{") or answer.finish_reason == "length"
    streamed = ask(client, tools=[WEATHER], temperature=1.0, seed=0, max_tokens=60, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
    assert text == (answers[0].message.content or "")


def test_old_functions_and_the_results_of_tools_are_understood(client: OpenAI) -> None:
    old = ask(
        client, functions=[WEATHER["function"]], function_call={"name": "find_node"}, max_tokens=120
    ).choices[0]
    assert old.finish_reason == "function_call"
    assert old.message.function_call.name == "find_node"
    call = {"id": "call_1", "type": "function", "function": {"name": "find_node", "arguments": "{}"}}
    followed = [
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "root"},
    ]
    assert isinstance(
        ask(client, messages=followed, tools=[WEATHER], tool_choice="none").choices[0].message.content, str
    )


def test_json_fits_its_schema(client: OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "word", "schema": SCHEMA, "strict": True}}
    answer = ask(client, response_format=form, max_tokens=120, n=3, temperature=1.0)
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        jsonschema.validate(json.loads(choice.message.content), SCHEMA)
    free = ask(client, response_format={"type": "json_object"}, max_tokens=300).choices[0]
    if free.finish_reason == "stop":
        assert isinstance(json.loads(free.message.content), dict)


@pytest.mark.parametrize(
    ("given", "param", "said"),
    [
        ({"model": "nope"}, "model", "No model found with id 'nope'"),
        ({"max_tokens": 10_000}, "messages", "maximum context length is"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages",
         "pictures, sounds and files are not read here"),
        ({"extra_body": {"top_k": 3}}, "top_k", "Unrecognized request argument supplied: top_k"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "odd"}}}},
         "response_format", "cannot be held"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "no"}}}, None, "none of the"),
        ({"messages": [{"role": "user", "content": "a\0b"}]}, "messages", "a NUL character"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused(
    client: OpenAI, given: dict[str, Any], param: str | None, said: str
) -> None:
    with pytest.raises((openai.BadRequestError, openai.NotFoundError), match=said) as caught:
        ask(client, **given)
    assert param is None or str(caught.value.param).startswith(param)


def test_a_client_that_goes_away_ends_its_answer(server: Running) -> None:
    ends = {str(token): -100 for token in (0, 1, 2, 3)}
    [(_, before)] = list(server.services.roster.loads())
    with ask(server.client, stream=True, max_tokens=480, logit_bias=ends) as stream:
        next(iter(stream))
    deadline = time.monotonic() + 20
    while any(load.rows for _, load in server.services.roster.loads()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(openai.APITimeoutError):
        ask(server.client.with_options(timeout=0.3), max_tokens=480, logit_bias=ends)
    while any(load.rows for _, load in server.services.roster.loads()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    [(_, after)] = list(server.services.roster.loads())
    assert after.said - before.said < 900


def test_completions_go_on_from_texts(client: OpenAI, local: LocalModel) -> None:
    given: Any = {"model": "tiny", "max_tokens": 6, "temperature": 0}
    answer = client.completions.create(prompt=["the shortest", "the flow"], n=2, **given)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[0].text == answer.choices[1].text
    ids = local.tokenizer("the shortest")["input_ids"]
    by_ids = client.completions.create(prompt=ids, **given)
    assert by_ids.choices[0].text == answer.choices[0].text
    echoed = client.completions.create(
        prompt="the shortest", echo=True, logprobs=2, **given | {"max_tokens": 0}
    )
    assert echoed.choices[0].text == "the shortest"
    logprobs = echoed.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert "".join(logprobs.tokens) == "the shortest"
    assert logprobs.token_logprobs is not None
    assert logprobs.token_logprobs[0] is None
    streamed = client.completions.create(prompt="the shortest", stream=True, **given)
    assert "".join(chunk.choices[0].text for chunk in streamed) == answer.choices[0].text


def test_models_are_listed_shown_and_not_deleted(client: OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {"tiny", "gpt-3.5-turbo"}
    assert client.models.retrieve("gpt-3.5-turbo").owned_by == "tunesmith"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("ft:nope:local::1")
    with pytest.raises(openai.PermissionDeniedError, match="belongs to the server"):
        client.models.delete("tiny")


def test_texts_are_embedded_as_numbers_and_as_base64(tmp_path: Path, tiny_encoder: str) -> None:
    with serving(tmp_path / "home", Options(models={"text-embedding-3-small": tiny_encoder})) as running:
        given: Any = {"model": "text-embedding-3-small", "input": ["find the node", "the soup"]}
        coded = running.client.embeddings.create(**given)
        plain = running.client.embeddings.create(encoding_format="float", **given)
        assert [each.embedding for each in coded.data] == [
            pytest.approx(each.embedding, abs=1e-6) for each in plain.data
        ]
        assert sum(value**2 for value in plain.data[0].embedding) == pytest.approx(1, abs=1e-4)
        short = running.client.embeddings.create(dimensions=4, encoding_format="float", **given)
        assert sum(value**2 for value in short.data[0].embedding) == pytest.approx(1, abs=1e-4)
        assert len(short.data[0].embedding) == 4
        with pytest.raises(openai.BadRequestError, match="cannot answer"):
            running.client.chat.completions.create(model="text-embedding-3-small", messages=ASKED)


def test_a_model_behind_another_service_is_asked_by_its_name_here(server: Running, tmp_path: Path) -> None:
    with serving(tmp_path / "home", Options(models={"far": f"openai:tiny@{server.url}"})) as running:
        near, far = ask(server.client), ask(running.client, model="far")
        assert (far.model, far.choices[0].message.content) == ("far", near.choices[0].message.content)
        chunks = list(ask(running.client, model="far", stream=True))
        assert (
            "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            == far.choices[0].message.content
        )
        assert {chunk.model for chunk in chunks} == {"far"}
        with pytest.raises(openai.BadRequestError, match="maximum context length"):
            ask(running.client, model="far", max_tokens=10_000)
        with pytest.raises(openai.BadRequestError, match="kept by another service"):
            running.client.fine_tuning.jobs.create(model="far", training_file="file-x")
    with serving(tmp_path / "other", Options(models={"gone": "openai:x@http://127.0.0.1:9/v1"})) as running:
        with pytest.raises(openai.APIStatusError, match="cannot be reached") as caught:
            ask(running.client, model="gone")
        assert caught.value.status_code == 502
