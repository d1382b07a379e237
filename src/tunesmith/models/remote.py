"""A chat model behind OpenAI's wire format, wherever it runs: OpenAI, vLLM, Ollama, llama-server, ..."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ModelBusy, ModelError, ModelRefused, TrainingError
from tunesmith.models.base import Functions, Sampling
from tunesmith.models.messages import Call
from tunesmith.models.metering import use
from tunesmith.records import Answer, Conversation

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAIError

SECONDS = 120.0
_LONGEST_WAIT = 600.0
# What passes: time-outs, conflicts, too many requests, and whatever is the server's own fault.
_PASSING = frozenset((408, 409, 425, 429, *range(500, 600)))
_HINTS = {
    401: "Set OPENAI_API_KEY to a key of that service.",
    403: "Set OPENAI_API_KEY to a key that may use this model.",
    404: "Check the model's name and the URL, which mostly ends in /v1.",
    429: "The service says that it is asked too much, or that the account has nothing left.",
}


class RemoteModel:
    """A ChatModel that a service answers for, up to `max_concurrency` questions at once.

    The key is `api_key`, else OPENAI_API_KEY, else "none" for services that want none; without `base_url` the
    SDK's own holds (OPENAI_BASE_URL, else OpenAI). The SDK tries again by itself after refused connections,
    time-outs and the statuses 408, 409, 429 and 5xx. Stop strings are applied here and not sent: services
    leave them out of the answer, where a ChatModel keeps them, and do not say whether one was met.
    """

    def __init__(
        self, model: str, *, base_url: str | None = None, api_key: str | None = None, max_concurrency: int = 8
    ) -> None:
        from openai import OpenAI

        self._model = model
        form = model if model.startswith("ft:") else f"openai:{model}"
        self._name = form + (f"@{base_url}" if base_url else "")
        self._max_concurrency = max_concurrency
        self._client = OpenAI(base_url=base_url, api_key=api_key or key_from_environment(), timeout=SECONDS)
        self._impatient = self._client.with_options(max_retries=0)
        self._knows_schemas = True
        self._functions: Functions | None = None

    @property
    def name(self) -> str:
        """The model's address."""
        return self._name

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
        """Return one answer for each conversation, in order; raises ModelError with the service's words."""
        start = time.perf_counter()
        with ThreadPoolExecutor(self._max_concurrency) as pool:
            answers = list(pool.map(lambda conversation: self._ask(conversation, sampling), conversations))
        passed, summed = time.perf_counter() - start, sum(answer.seconds for answer in answers)
        # Questions overlap: shared out, their times add up to the time that passed.
        use(sum(each.prompt_tokens for each in answers), sum(each.completion_tokens for each in answers))
        return [replace(answer, seconds=answer.seconds * passed / summed) for answer in answers]

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[str]:
        """Yield the answer's pieces as they come; raises ModelError with the service's own words.

        Services tell a stream's tokens where they are asked to, which not all understand: metered is a token for each
        piece that came, and for four characters of what was asked.
        """
        asked, came = sum(len(message.content) for message in conversation), list[str]()
        try:
            yield from self._pieces(conversation, sampling, came)
        finally:
            use(-(-asked // 4), len(came))

    def _pieces(self, conversation: Conversation, sampling: Sampling, came: list[str]) -> Iterator[str]:
        """Yield what may be said of the pieces, each of which is added to `came`."""
        said, received = 0, ""
        held = max((len(stop) - 1 for stop in sampling.stop), default=0)
        with self._errors_named(), self._create(conversation, sampling, stream=True) as chunks:
            for chunk in chunks:
                piece = (chunk.choices[0].delta.content or "") if chunk.choices else ""
                came += [piece] if piece else []
                received += piece
                text = _cut(received, sampling.stop)
                stopped = text is not None
                upto = len(text) if text is not None else len(received) - held
                if upto > said:
                    yield received[said:upto]
                    said = upto
                if stopped:
                    return
        if len(received) > said:
            yield received[said:]

    @property
    def knows_functions(self) -> bool:
        """Whether it can be told of functions: it is part of the wire format."""
        return True

    def calling(self, functions: Functions) -> RemoteModel:
        """Return the same model, told of each conversation's functions; its calls are the answer's text, one a line."""
        told = copy(self)
        told._functions = functions
        return told

    def ask(self, conversation: Conversation, sampling: Sampling) -> Answer:
        """Return one answer without trying again, for who knows how to wait; safe to use from several threads.

        Raises ModelBusy if the service may be asked again, ModelRefused if it will not answer this question, and
        ModelError if it knows nothing of what it is asked.
        """
        return self._ask(conversation, sampling, patient=False)

    def _ask(self, conversation: Conversation, sampling: Sampling, *, patient: bool = True) -> Answer:
        start = time.perf_counter()
        with self._errors_named():
            completion = self._create(conversation, sampling, stream=False, patient=patient)
        seconds = time.perf_counter() - start
        # The SDK hands on whatever a server sends, a page of HTML too.
        choices = getattr(completion, "choices", None)
        if not choices:
            raise ModelError(
                f"{self.name} sent no answer in OpenAI's form: {str(completion)[:200]!r}", hint=_HINTS[404]
            )
        if choices[0].finish_reason == "content_filter":
            raise ModelRefused(
                f"{self.name} refused to answer: "
                f"its content filter stopped it at {conversation[-1].content[:80]!r}",
                hint="Leave the question out, or ask another model.",
            )
        message, usage = choices[0].message, completion.usage
        called = [Call(one.function.name, one.function.arguments).said for one in message.tool_calls or ()]
        said = "\n".join(called) or message.content or message.refusal or ""
        text = _cut(said, sampling.stop)
        return Answer(
            text=said if text is None else text,
            prompt_tokens=usage.prompt_tokens if usage else 0,
            completion_tokens=usage.completion_tokens if usage else 0,
            seconds=seconds,
            finish="length" if text is None and choices[0].finish_reason == "length" else "stop",
        )

    def _create(
        self, conversation: Conversation, sampling: Sampling, *, stream: bool, patient: bool = True
    ) -> Any:
        from openai import BadRequestError, UnprocessableEntityError

        client = self._client if patient else self._impatient
        # OpenAI's newer models refuse the old name of the limit; other services know no other.
        limit = "max_completion_tokens" if self._client.base_url.host == "api.openai.com" else "max_tokens"
        request: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in conversation],
            "temperature": sampling.temperature,
            "seed": sampling.seed,
            "stream": stream,
            limit: sampling.max_tokens,
        }
        if self._functions is not None and (functions := self._functions(conversation)):
            request["tools"] = [{"type": "function", "function": dict(one)} for one in functions]
        if not (sampling.schema and self._knows_schemas):
            return client.chat.completions.create(**request)
        schema = {"name": "reply", "schema": json.loads(sampling.schema)}
        form: dict[str, Any] = {"response_format": {"type": "json_schema", "json_schema": schema}}
        try:
            return client.chat.completions.create(**(request | form))
        except (BadRequestError, UnprocessableEntityError):
            # It may be the schema, and it may be the question: asked again without, it says which.
            found = client.chat.completions.create(**request)
            self._knows_schemas = False
            return found

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        from openai import OpenAIError

        try:
            yield
        except OpenAIError as error:
            raise service_error(self.name, error) from error


def key_from_environment() -> str:
    """Return OPENAI_API_KEY, or "none" for services that want no key."""
    return os.environ.get("OPENAI_API_KEY") or "none"


def service_error(
    name: str, error: OpenAIError, kind: type[ModelError | TrainingError] = ModelError
) -> ModelError | TrainingError:
    """Return what went wrong with a service, in its own words and with the way out; `name` is whom it calls so."""
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    busy = ModelBusy if kind is ModelError else kind
    if isinstance(error, APIStatusError):
        status = error.status_code
        said, hint = f"{name} answered {status}: {_words(error)}", _HINTS.get(status)
        # An account with nothing left answers 429 as well, and will for as long as one waits.
        if kind is not ModelError or error.code == "insufficient_quota" or status not in _PASSING:
            return kind(said, hint=hint)
        return ModelBusy(said, hint=hint, retry_after=_retry_after(error))
    if isinstance(error, APITimeoutError):
        return busy(f"{name} did not answer within {SECONDS:.0f} seconds.")
    if isinstance(error, APIConnectionError):
        return busy(
            f"{name} cannot be reached: {error.__cause__ or error}",
            hint="Check that the service runs, and the URL behind the @.",
        )
    return kind(f"{name} did not answer: {error}")


def _retry_after(error: APIStatusError) -> float | None:
    """Return how many seconds a service wants to be left alone; a date, which it may be too, is passed over."""
    try:
        seconds = float(error.response.headers.get("retry-after-ms", "")) / 1000
    except ValueError:
        try:
            seconds = float(error.response.headers.get("retry-after", ""))
        except ValueError:
            return None
    return seconds if 0 <= seconds <= _LONGEST_WAIT else None


def _words(error: Any) -> str:
    """Return what a service says went wrong: its JSON's message, else what it sent, else the SDK's words."""
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return str(body["message"])
    return error.response.text.strip()[:300] or str(error)


def _cut(text: str, stops: tuple[str, ...]) -> str | None:
    """Return the text up to the end of the stop string that ends first, or None if there is none in it."""
    ends = [found + len(stop) for stop in stops if (found := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else None
