"""Responses over the wire, with the real SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from tunesmith.serving.options import Options
from tunesmith.serving.responses import KEPT_SECONDS

from .running import Running, serving

ASKED: Any = {"model": "tiny", "input": "find the node", "max_output_tokens": 8, "temperature": 0}
TOOL: Any = {
    "type": "function",
    "name": "find",
    "description": "Find a node.",
    "parameters": {
        "type": "object",
        "properties": {"name": {"enum": ["a", "b"]}},
        "required": ["name"],
        "additionalProperties": False,
    },
    "strict": True,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, options: Options) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("server") / "home", options) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> OpenAI:
    """A client that refuses answers of another shape than the SDK's types."""
    return OpenAI(
        base_url=server.url, api_key="any", max_retries=0, timeout=60, _strict_response_validation=True
    )


def test_an_input_is_answered_as_the_chat_would(client: OpenAI) -> None:
    response = client.responses.create(**ASKED, instructions="Speak.", metadata={"a": "b"})
    chat = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "system", "content": "Speak."}, {"role": "user", "content": "find the node"}],
        max_tokens=8,
        temperature=0,
    )
    assert response.output_text == chat.choices[0].message.content
    assert (response.status, response.model, response.metadata) == ("incomplete", "tiny", {"a": "b"})
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage is not None
    assert chat.usage is not None
    assert response.usage.input_tokens == chat.usage.prompt_tokens
    assert response.usage.output_tokens == 8
    counted = client.responses.input_tokens.count(model="tiny", input="find the node", instructions="Speak.")
    assert counted.input_tokens == chat.usage.prompt_tokens


def test_items_and_texts_ask_the_same(client: OpenAI) -> None:
    plain = client.responses.create(**ASKED)
    parts = client.responses.create(
        **ASKED | {"input": [{"role": "user", "content": [{"type": "input_text", "text": "find the node"}]}]}
    )
    assert plain.output_text == parts.output_text
    # What came may be sent back as it is.
    again = client.responses.create(
        **ASKED
        | {
            "input": [
                {"role": "user", "content": "find the node"},
                *_plain(plain),
                {"role": "user", "content": "and?"},
            ]
        }
    )
    after = client.responses.create(**ASKED | {"input": "and?"}, previous_response_id=plain.id)
    assert again.usage is not None
    assert after.usage is not None
    assert again.usage.input_tokens == after.usage.input_tokens
    assert again.output_text == after.output_text


def _plain(response: Any) -> list[Any]:
    return [item.model_dump(exclude_none=True) for item in response.output]


def test_what_was_said_is_remembered_listed_and_deleted(client: OpenAI) -> None:
    first = client.responses.create(**ASKED, instructions="Not carried over.")
    second = client.responses.create(
        model="tiny", input="and the edge?", previous_response_id=first.id, max_output_tokens=4
    )
    third = client.responses.create(
        model="tiny", previous_response_id=second.id, input="so?", max_output_tokens=2
    )
    shown = client.responses.retrieve(third.id)
    assert shown == third
    listed: list[Any] = list(client.responses.input_items.list(third.id, order="asc", limit=2))
    assert [item.content[0].text for item in listed] == [
        "find the node", first.output_text, "and the edge?", second.output_text, "so?",
    ]  # fmt: skip
    assert list(client.responses.input_items.list(third.id)) == listed[::-1]
    client.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(second.id)
    with pytest.raises(openai.BadRequestError, match="Previous response with id") as caught:
        client.responses.create(**ASKED, previous_response_id=third.id)
    assert caught.value.code == "previous_response_not_found"
    with pytest.raises(openai.BadRequestError, match="has ended"):
        client.responses.cancel(third.id)


def test_a_response_is_not_kept_where_that_is_not_wanted_or_long_ago(
    tmp_path: Path, options: Options
) -> None:
    with serving(tmp_path / "home", options) as running:
        unkept = running.client.responses.create(**ASKED, store=False)
        kept = running.client.responses.create(**ASKED)
        with pytest.raises(openai.NotFoundError):
            running.client.responses.retrieve(unkept.id)
        moment = running.services.store.clock()
        running.services.store.clock = lambda: moment + KEPT_SECONDS + 60
        with pytest.raises(openai.NotFoundError):
            running.client.responses.retrieve(kept.id)


def test_a_stream_tells_each_step_in_order(client: OpenAI) -> None:
    whole = client.responses.create(**ASKED)
    with client.responses.create(**ASKED, stream=True) as stream:
        events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete",
    ]  # fmt: skip
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    last: Any = events[-1]
    assert said == last.response.output_text == whole.output_text
    assert client.responses.retrieve(last.response.id) == last.response


def test_log_probabilities_are_told_where_they_are_asked_for(client: OpenAI) -> None:
    response: Any = client.responses.create(**ASKED, include=["message.output_text.logprobs"], top_logprobs=2)
    told = response.output[0].content[0].logprobs
    assert len(told) == 8
    assert all(len(each.top_logprobs) == 2 and each.logprob <= 0 for each in told)
    with pytest.raises(openai.BadRequestError, match="in 'include'"):
        client.responses.create(**ASKED, top_logprobs=2)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "find"}])
def test_a_function_is_called_and_its_result_read(client: OpenAI, choice: Any) -> None:
    asked: Any = {"model": "tiny", "tools": [TOOL], "tool_choice": choice}
    response: Any = client.responses.create(input="find the node", **asked)
    [call] = response.output
    assert (call.type, call.name, response.status) == ("function_call", "find", "completed")
    assert json.loads(call.arguments)["name"] in ("a", "b")
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "found it"}
    answered = client.responses.create(
        model="tiny", input=[result], previous_response_id=response.id, max_output_tokens=4
    )
    assert answered.output_text
    sent: Any = [{"role": "user", "content": "find the node"}, *_plain(response), result]
    same = client.responses.create(model="tiny", input=sent, max_output_tokens=4)
    assert same.usage is not None
    assert answered.usage is not None
    assert same.usage.input_tokens == answered.usage.input_tokens
    with client.responses.create(input="find the node", **asked, stream=True) as stream:
        events: list[Any] = list(stream)
    kinds = [event.type for event in events]
    assert kinds[2:] == [
        "response.output_item.added", "response.function_call_arguments.delta",
        "response.function_call_arguments.done", "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert json.loads(events[4].arguments)["name"] in ("a", "b")


def test_the_answer_fits_its_schema(client: OpenAI) -> None:
    schema = TOOL["parameters"]
    asked: Any = {
        "model": "tiny",
        "input": "find the node",
        "temperature": 0,
        "text": {"format": {"type": "json_schema", "name": "found", "schema": schema, "strict": True}},
    }
    response = client.responses.create(**asked)
    # The SDK's own helper puts a stream together.
    with client.responses.stream(**asked) as helped:
        assert helped.get_final_response().output_text == response.output_text
    assert json.loads(response.output_text)["name"] in ("a", "b")
    assert response.status == "completed"


def test_the_oldest_is_dropped_where_the_context_is_full_if_asked(client: OpenAI) -> None:
    long: Any = [{"role": "user", "content": "find the node " * 20} for _ in range(60)]
    asked = ASKED | {"input": long}
    with pytest.raises(openai.BadRequestError, match="maximum context length") as caught:
        client.responses.create(**asked)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input")
    response = client.responses.create(**asked, truncation="auto")
    assert response.usage is not None
    shorter = client.responses.create(**ASKED | {"input": long[1:]}, truncation="auto")
    assert shorter.output_text == response.output_text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"background": True}, "nothing is answered in the background"),
        ({"conversation": "conv_1"}, "use previous_response_id"),
        ({"prompt": {"id": "pmpt_1"}}, "prompts are not kept here"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [TOOL, TOOL]}, "two functions have the same name"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "other"}}, "is none of the functions"),
        ({"input": None}, "'input' is missing"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "send text"),
        ({"text": {"format": {"type": "json_schema"}}}, "needs 'name' and 'schema'"),
        ({"extra_body": {"colour": "red"}}, "Unrecognized request argument supplied: colour"),
    ],
)
def test_what_is_not_served_is_refused_by_its_name(client: OpenAI, given: Any, said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        client.responses.create(**ASKED | given)


def test_other_organisations_see_no_response(tmp_path: Path, options: Options) -> None:
    from tunesmith.serving.keys import new_key

    with serving(tmp_path / "home", replace(options)) as running:
        store = running.services.store
        ours, theirs = (
            running.as_key(new_key(store, organisation=name, name="", scopes=["inference"]))
            for name in ("ours", "theirs")
        )
        response = ours.responses.create(**ASKED)
        assert ours.responses.retrieve(response.id).id == response.id
        for ask in (theirs.responses.retrieve, theirs.responses.delete, theirs.responses.input_items.list):
            with pytest.raises(openai.NotFoundError):
                ask(response.id)
        with pytest.raises(openai.BadRequestError, match="Previous response"):
            theirs.responses.create(**ASKED, previous_response_id=response.id)
