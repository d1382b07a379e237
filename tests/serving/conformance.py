"""Call a server as code written for OpenAI does, with whichever SDK is installed: 1.3.3 and today's.

Only OPENAI_BASE_URL and OPENAI_API_KEY say where the server is. Each call prints a JSON line: its name, and what was
wrong, null for nothing. A call that an old SDK does not know is told as skipped.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import openai

# Plain code in the manner of scripts: the SDKs' types differ by version.
# Answers of another shape than the SDK says are errors, as in its own tests; `loose` is for what OpenAI itself answers
# in another shape: "paused", no logprob of a first token, no reason before the end, base64, a run without an error.
client: Any = openai.OpenAI(_strict_response_validation=True)
loose: Any = openai.OpenAI()
MODEL, ASKED = "gpt-3.5-turbo", [{"role": "user", "content": "find the node"}]
CALLS: list[Callable[[], None]] = []
JOBS: dict[str, Any] = {}


class Unknown(Exception):
    """The SDK has no such call."""


def call(function: Callable[[], None]) -> Callable[[], None]:
    """Add a call to those that are made."""
    CALLS.append(function)
    return function


def known(*names: str) -> Any:
    """Return a part of the client; raises Unknown where the SDK does not have it."""
    part = client
    for name in names:
        part = getattr(part, name, None)
        if part is None:
            raise Unknown(".".join(names))
    return part


def rows(count: int) -> bytes:
    """Return chats as JSON lines."""
    chats = (
        {
            "messages": [
                {"role": "user", "content": f"find {n}"},
                {"role": "assistant", "content": "it is there"},
            ]
        }
        for n in range(count)
    )
    return "".join(json.dumps(chat) + "\n" for chat in chats).encode()


def upload(content: bytes, purpose: str) -> Any:
    """Upload a file."""
    return client.files.create(file=("rows.jsonl", BytesIO(content)), purpose=purpose)


@call
def files() -> None:
    made = [upload(rows(2), "fine-tune") for _ in range(3)]
    # Old SDKs page until a page is empty.
    assert {file.id for file in made} <= {file.id for file in client.files.list()}
    assert client.files.retrieve(made[0].id).bytes == len(rows(2))
    content = client.files.content(made[0].id)
    assert content.read() == rows(2)
    assert client.files.delete(made[0].id).deleted
    try:
        client.files.retrieve(made[0].id)
    except openai.NotFoundError as error:
        assert error.status_code == 404
    else:
        raise AssertionError("a deleted file is still there")


@call
def uploads() -> None:
    whole = rows(50)
    part = known("uploads", "parts")
    made = client.uploads.create(
        bytes=len(whole), filename="rows.jsonl", mime_type="application/jsonl", purpose="fine-tune"
    )
    ids = [part.create(made.id, data=BytesIO(piece)).id for piece in (whole[:100], whole[100:])]
    done = client.uploads.complete(made.id, part_ids=ids)
    assert client.files.content(done.file.id).read() == whole
    other = client.uploads.create(bytes=3, filename="x", mime_type="text/plain", purpose="fine-tune")
    assert client.uploads.cancel(other.id).status == "cancelled"


@call
def jobs() -> None:
    train, valid = upload(rows(8), "fine-tune"), upload(rows(3), "fine-tune")
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=train.id,
        validation_file=valid.id,
        suffix="conform",
        hyperparameters={"n_epochs": 3},
    )
    deadline = time.monotonic() + 240
    while job.status not in ("succeeded", "failed", "cancelled"):
        assert time.monotonic() < deadline, job
        time.sleep(0.5)
        job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded", job
    assert (job.hyperparameters.n_epochs, job.object) == (3, "fine_tuning.job")
    assert job.fine_tuned_model.startswith("ft:gpt-3.5-turbo:")
    assert job.trained_tokens > 0
    JOBS["done"] = job
    assert job.id in {each.id for each in client.fine_tuning.jobs.list(limit=1)}
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=5))
    assert len({event.id for event in events}) == len(events) > 10
    assert "successfully completed" in events[0].message
    metrics = client.files.content(job.result_files[0]).read().decode().splitlines()
    assert metrics[0].startswith("step,train_loss,train_accuracy,valid_loss")


@call
def checkpoints() -> None:
    found = list(known("fine_tuning", "jobs", "checkpoints").list(JOBS["done"].id))
    assert 1 <= len(found) <= 3
    name = found[0].fine_tuned_model_checkpoint
    assert client.chat.completions.create(model=name, messages=ASKED, max_tokens=2).model == name


@call
def job_by_method() -> None:
    known("fine_tuning", "jobs", "checkpoints")
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=upload(rows(4000), "fine-tune").id,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4, "batch_size": 1}}},
        metadata={"team": "conform"},
    )
    if hasattr(client.fine_tuning.jobs, "pause"):
        while client.fine_tuning.jobs.retrieve(job.id).status in ("validating_files", "queued"):
            time.sleep(0.2)
        loose.fine_tuning.jobs.pause(job.id)
        while loose.fine_tuning.jobs.retrieve(job.id).status != "paused":
            time.sleep(0.2)
        client.fine_tuning.jobs.resume(job.id)
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    # Old clients read n_epochs here, whatever the job was made with.
    assert client.fine_tuning.jobs.retrieve(job.id).hyperparameters.n_epochs == 4
    found = client.fine_tuning.jobs.list(extra_query={"metadata[team]": "conform"})
    assert [each.id for each in found] == [job.id]


@call
def cancelled_job() -> None:
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=upload(rows(4000), "fine-tune").id)
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"


@call
def faulty_file() -> None:
    job = client.fine_tuning.jobs.create(
        model=MODEL, training_file=upload(b'{"messages": []}\n', "fine-tune").id
    )
    while job.status not in ("failed", "succeeded"):
        time.sleep(0.2)
        job = client.fine_tuning.jobs.retrieve(job.id)
    error = job.error if isinstance(job.error, dict) else job.error.model_dump()
    assert "line 1" in error["message"].lower(), error
    assert error["param"] == "training_file"


@call
def models() -> None:
    tuned = JOBS["done"].fine_tuned_model
    assert {MODEL, tuned} <= {model.id for model in client.models.list()}
    assert client.models.retrieve(tuned).id == tuned
    answer = client.chat.completions.create(model=tuned, messages=ASKED, max_tokens=4)
    assert answer.model == tuned
    assert client.models.delete(tuned).deleted
    try:
        client.chat.completions.create(model=tuned, messages=ASKED)
    except openai.NotFoundError as error:
        assert "model" in str(error)
    else:
        raise AssertionError("a deleted model answers")


@call
def chat() -> None:
    settings: Any = {"seed": 1, "temperature": 0.5, "top_p": 0.9, "max_tokens": 5, "stop": ["\n\n"], "n": 2}
    answer = client.chat.completions.create(model=MODEL, messages=ASKED, **settings)
    again = client.chat.completions.create(model=MODEL, messages=ASKED, **settings)
    assert [each.message.content for each in answer.choices] == [
        each.message.content for each in again.choices
    ]
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@call
def chat_stream() -> None:
    whole = client.chat.completions.create(model=MODEL, messages=ASKED, max_tokens=6, temperature=0)
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=ASKED, max_tokens=6, temperature=0, stream=True)
    )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


@call
def chat_tools() -> None:
    parameters: Any = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
    parameters["additionalProperties"] = False
    tools = [{"type": "function", "function": {"name": "find", "parameters": parameters}}]
    choice = {"type": "function", "function": {"name": "find"}}
    answer = client.chat.completions.create(
        model=MODEL, messages=ASKED, tools=tools, tool_choice=choice, max_tokens=60
    )
    [called] = answer.choices[0].message.tool_calls
    assert called.function.name == "find"
    assert json.loads(called.function.arguments)["n"] in (1, 2)
    assert answer.choices[0].finish_reason == "tool_calls"


@call
def chat_schema() -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["a", "b"]}},
        "required": ["kind"],
        "additionalProperties": False,
    }
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    answer = client.chat.completions.create(model=MODEL, messages=ASKED, response_format=form)
    assert json.loads(answer.choices[0].message.content)["kind"] in ("a", "b")


@call
def chat_logprobs() -> None:
    # The first SDKs have no argument for it, and send what they are given.
    more = {"logprobs": True, "top_logprobs": 2}
    answer = client.chat.completions.create(model=MODEL, messages=ASKED, max_tokens=3, extra_body=more)
    told = answer.model_dump()["choices"][0]["logprobs"]["content"]
    assert len(told) == 3
    assert len(told[0]["top_logprobs"]) == 2


@call
def context_overflow() -> None:
    try:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * 20_000}])
    except openai.BadRequestError as error:
        assert "maximum context length is" in str(error)
        assert error.code == "context_length_exceeded"
    else:
        raise AssertionError("the context did not overflow")


@call
def completions() -> None:
    answer = loose.completions.create(model=MODEL, prompt="find the", max_tokens=4, logprobs=2, echo=True)
    assert answer.choices[0].text.startswith("find the")
    assert len(answer.choices[0].logprobs.tokens) == len(answer.choices[0].logprobs.token_logprobs)
    chunks = loose.completions.create(model=MODEL, prompt="find the", max_tokens=4, logprobs=2, stream=True)
    assert sum(len(chunk.choices[0].logprobs.tokens) for chunk in chunks if chunk.choices[0].logprobs) == 4


@call
def embeddings() -> None:
    found = loose.embeddings.create(model="text-embedding-3-small", input=["find the node", "soup"])
    plain = client.embeddings.create(
        model="text-embedding-3-small", input=["find the node", "soup"], encoding_format="float"
    )
    assert [each.index for each in found.data] == [each.index for each in plain.data] == [0, 1]
    assert found.data[1].embedding == plain.data[1].embedding
    assert all(isinstance(value, float) for value in found.data[0].embedding)


@call
def responses() -> None:
    made = known("responses").create(model=MODEL, input="find the node", max_output_tokens=4)
    assert client.responses.retrieve(made.id).output_text == made.output_text
    assert [item.role for item in client.responses.input_items.list(made.id)] == ["user"]
    client.responses.delete(made.id)
    events = list(client.responses.create(model=MODEL, input="find", max_output_tokens=4, stream=True))
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == events[-1].response.output_text
    counted = client.responses.input_tokens.count(model=MODEL, input="find")
    assert counted.input_tokens == events[-1].response.usage.input_tokens


@call
def the_async_client() -> None:
    async def ask() -> tuple[str, str]:
        async with openai.AsyncOpenAI(_strict_response_validation=True) as client:
            given: Any = {"model": MODEL, "messages": ASKED, "max_tokens": 6, "temperature": 0}
            whole = await client.chat.completions.create(**given)
            stream: Any = await client.chat.completions.create(**given, stream=True)
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
            return whole.choices[0].message.content, "".join(pieces)

    whole, streamed = asyncio.run(ask())
    assert whole == streamed


@call
def raw_and_streamed_responses() -> None:
    raw = client.models.with_raw_response.retrieve(MODEL)
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.parse().id == MODEL
    streaming = known("models", "with_streaming_response")
    with streaming.list() as streamed:
        assert not streamed.is_closed
        assert MODEL in {model.id for model in streamed.parse().data}


@call
def batches() -> None:
    known("batches")
    body = {"model": MODEL, "messages": ASKED, "max_tokens": 2}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    file = upload(json.dumps(line).encode(), "batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    while batch.status not in ("completed", "failed"):
        time.sleep(0.2)
        batch = client.batches.retrieve(batch.id)
    output = json.loads(client.files.content(batch.output_file_id).read())
    assert output["response"]["status_code"] == 200
    assert batch.id in {each.id for each in client.batches.list()}


@call
def evals() -> None:
    grader = {
        "type": "string_check", "name": "same", "operation": "eq",
        "input": "{{sample.output_text}}", "reference": "{{item.answer}}",
    }  # fmt: skip
    config = {"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True}
    made = known("evals").create(data_source_config=config, testing_criteria=[grader])
    content = [{"item": {"answer": "x"}, "sample": {"output_text": "x"}}]
    source = {"type": "jsonl", "source": {"type": "file_content", "content": content}}
    run = loose.evals.runs.create(made.id, data_source=source)
    while run.status in ("queued", "in_progress"):
        time.sleep(0.2)
        run = loose.evals.runs.retrieve(run.id, eval_id=made.id)
    assert run.result_counts.passed == 1
    assert [item.status for item in loose.evals.runs.output_items.list(run.id, eval_id=made.id)] == ["pass"]
    client.evals.delete(made.id)


@call
def graders() -> None:
    source = "def grade(sample, item):\n    return float(len(sample['output_text']))"
    grader = {"type": "python", "name": "length", "source": source}
    graded = known("fine_tuning", "alpha", "graders").run(grader=grader, model_sample="four")
    assert graded.reward == 4
    client.fine_tuning.alpha.graders.validate(grader=grader)


@call
def moderations() -> None:
    # No classifier is served: the error says how to have one, and is not tried again.
    try:
        client.moderations.create(input="x")
    except openai.NotFoundError as error:
        assert "--model" in str(error)
    else:
        raise AssertionError("nobody moderates")


@call
def unknown_things() -> None:
    for ask in (client.files.retrieve, client.fine_tuning.jobs.retrieve, client.models.retrieve):
        try:
            ask("ft:..%2f..:nothing")
        except openai.NotFoundError as error:
            assert error.response.json()["error"]["type"] == "invalid_request_error"
            assert error.response.headers["x-request-id"].startswith("req_")
        else:
            raise AssertionError("an unknown id was found")


def outcomes() -> Iterator[dict[str, Any]]:
    """Make each call; yield its name, and what was wrong."""
    for function in CALLS:
        try:
            function()
        except Unknown as error:
            yield {"call": function.__name__, "wrong": None, "skipped": str(error)}
        except Exception as error:  # noqa: BLE001 - all calls are told, whatever one of them raises
            place, trace = 0, error.__traceback__
            while trace is not None:
                place = trace.tb_lineno if trace.tb_frame.f_code.co_filename == __file__ else place
                trace = trace.tb_next
            yield {
                "call": function.__name__,
                "wrong": f"line {place}: {type(error).__name__}: {error} {error.__cause__ or ''}"[:2000],
            }
        else:
            yield {"call": function.__name__, "wrong": None}


if __name__ == "__main__":
    for outcome in outcomes():
        sys.stdout.write(json.dumps({"sdk": openai.__version__} | outcome) + "\n")
        sys.stdout.flush()
