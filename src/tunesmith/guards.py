"""A policy to the rails that it means, with the catalogues, schemas, corpora and encoders that it names."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tunesmith.artifacts import Store
from tunesmith.errors import ConfigError, DatasetError, UsageError
from tunesmith.guarding.answers import callable_only, of_schema
from tunesmith.guarding.grounding import grounded
from tunesmith.guarding.guard import Guard
from tunesmith.guarding.injection import injection
from tunesmith.guarding.policy import Injection, Policy, PrivateRead, SecretsRead, WordsRead, load_policy
from tunesmith.guarding.rails import Action, Check, Find, Outcome, Where, without
from tunesmith.guarding.sources import from_sources
from tunesmith.guarding.texts import private, refusing, shipped, too_long, unwanted, words_in
from tunesmith.guarding.tools import named, only_shown, with_arguments
from tunesmith.guarding.topic import off_topic
from tunesmith.guarding.trials import Trial, try_tests

if TYPE_CHECKING:
    from tunesmith.catalogue import Catalogue
    from tunesmith.models.base import Encoder


def guard_of(
    policy: Policy,
    folder: Path,
    *,
    catalogue: Catalogue | None = None,
    load_encoder: Callable[[str], Encoder] | None = None,
) -> Guard:
    """Return the rails of a policy; the files that it names lie in `folder` unless their paths are whole.

    `catalogue` judges calls where the policy names none. Raises ConfigError for a file that is not there or not what it
    should be, and where calls are to be judged and nothing says what may be called.
    """
    made = _Making(folder, catalogue, load_encoder or _encoder)
    tell = made.tell(policy)
    checks = (*made.input(policy), *made.retrieval(policy), *made.output(policy, tell), *made.tools(policy))
    return Guard(tuple(replace(each, tell=tell) for each in checks), policy.refusal, policy.ask_again)


@dataclass(frozen=True, slots=True)
class Looked:
    """A text of a file, at its line from 1, and what became of it; given texts are numbered on from its last one."""

    line: int
    text: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Looks:
    """What a policy does to texts: how many, by action and by rail, and those in which it found something."""

    policy: str
    where: Where
    texts: int
    actions: Mapping[Action, int]
    rails: Mapping[str, int]
    found: tuple[Looked, ...]


def try_policy(path: Path) -> tuple[Trial, ...]:
    """Run a policy's own tests; raises ConfigError for a policy that is not right, or has no tests."""
    policy = load_policy(path)
    if not policy.test:
        raise ConfigError(
            f"{path} has no tests, so that nothing shows what it does",
            hint='Write one: [[test]], text = "...", where = "input", action = "refuse".',
        )
    return try_tests(guard_of(policy, path.parent), policy.test)


def check_policy(path: Path, file: Path | None, texts: Sequence[str], where: Where) -> Looks:
    """Return what a policy does to the texts of a file and those that are given.

    Raises ConfigError for a policy or a file that is not right, and UsageError where there is no text.
    """
    guard = guard_of(load_policy(path), path.parent)
    every = {} if file is None else texts_in(file, _read(file, "the file"))
    every |= dict(enumerate(texts, max(every, default=0) + 1))
    if not every:
        raise UsageError("there is no text to look at", hint="Name a file, or give --text TEXT.")
    outcomes = [guard.look(where, text) for text in every.values()]
    actions = Counter(each.action for each in outcomes)
    rails = Counter(name for each in outcomes for name in {found.rail for found in each.findings})
    rows = zip(every.items(), outcomes, strict=True)
    found = tuple(Looked(line, text, each) for (line, text), each in rows if each.findings)
    return Looks(str(path), where, len(every), dict(actions), dict(rails.most_common()), found)


def texts_in(file: Path, content: str) -> dict[int, str]:
    """Return the texts of a file by their lines: one a line, or of JSON lines its question, text or last user message.

    Empty lines are counted and left out. Raises ConfigError for a line that has no text.
    """
    # JSON may hold what str.splitlines cuts at.
    lines = {number: line for number, line in enumerate(content.split("\n"), 1) if line.strip()}
    if file.suffix != ".jsonl":
        return lines
    return {number: _text_of(file, number, line) for number, line in lines.items()}


def _text_of(file: Path, number: int, line: str) -> str:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise _wrong(str(file), f"line {number} is no JSON") from error
    given = row if isinstance(row, dict) else {}
    said = [
        _joined(each.get("content"))
        for each in given.get("messages") or ()
        if isinstance(each, dict) and each.get("role") == "user"
    ]
    text = given.get("question", given.get("text", said[-1] if said else None))
    if not isinstance(text, str):
        raise _wrong(str(file), f'line {number} has no "question", no "text" and no message of a user')
    return text


def _joined(content: Any) -> Any:
    """Return what a message says: parts of text as one text, all else as it is."""
    if not isinstance(content, list):
        return content
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str)) or None


def _read(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(str(path), f"{name} cannot be read: {error}") from error


def _wrong(file: str, why: str) -> ConfigError:
    return ConfigError(f"{file}: {why}", hint="Paths in a policy are relative to its folder.")


def _injection(told: Injection, *, documents: bool = False) -> Find:
    return injection(documents=documents, allow=told.allow, least=told.least)


class _Making:
    """Makes rails, with what they need read in."""

    def __init__(
        self, folder: Path, catalogue: Catalogue | None, load_encoder: Callable[[str], Encoder]
    ) -> None:
        self._folder, self._catalogue, self._load_encoder = folder, catalogue, load_encoder

    def input(self, policy: Policy) -> Iterator[Check]:
        rails = policy.input
        if rails.length:
            yield Check("input", "length", rails.length.action, too_long(rails.length.most))
        if rails.injection:
            yield Check("input", "injection", rails.injection.action, _injection(rails.injection))
        yield from self._texts("input", rails.secrets, rails.private, rails.words)
        if rails.off_topic:
            given = rails.off_topic
            find = off_topic(self._corpus(given.corpus), self._load_encoder(given.encoder), given.least)
            yield Check("input", "off_topic", given.action, find)

    def retrieval(self, policy: Policy) -> Iterator[Check]:
        rails = policy.retrieval
        if rails.sources:
            find = from_sources(rails.sources.allow, rails.sources.deny)
            yield Check("retrieval", "sources", rails.sources.action, find)
        if rails.injection:
            find = _injection(rails.injection, documents=True)
            yield Check("retrieval", "injection", rails.injection.action, find)
        yield from self._texts("retrieval", rails.secrets, rails.private, None)

    def tell(self, policy: Policy) -> Callable[[str], str]:
        """Return what takes out of a reason what may not be said: reasons quote, and are told to whoever asks."""
        rails = policy.output
        return without([each.find for each in self._texts("output", rails.secrets, rails.private, None)])

    def output(self, policy: Policy, tell: Callable[[str], str]) -> Iterator[Check]:
        rails = policy.output
        if rails.refusals:
            yield Check("output", "refusals", rails.refusals.action, refusing())
        if rails.schema_:
            yield Check(
                "output",
                "schema",
                rails.schema_.action,
                of_schema(self._schema()(rails.schema_.file)),
                "answer",
            )
        if rails.calls:
            catalogue = self._catalogue_of(rails.calls.catalogue)
            yield Check("output", "calls", rails.calls.action, callable_only(catalogue), "block")
        if rails.grounding:
            yield Check("output", "grounding", rails.grounding.action, grounded(rails.grounding.least, tell))
        yield from self._texts("output", rails.secrets, rails.private, rails.words)

    def tools(self, policy: Policy) -> Iterator[Check]:
        rails = policy.tools
        if rails.names:
            yield Check("tools", "names", rails.names.action, named(rails.names.allow))
        if rails.arguments:
            schemas = self._json(rails.arguments.file)
            if not isinstance(schemas, dict):
                raise _wrong(rails.arguments.file, "it holds no object of schemas by tools' names")
            texts = {name: self._checked(rails.arguments.file, schema) for name, schema in schemas.items()}
            yield Check("tools", "arguments", rails.arguments.action, with_arguments(texts))
        if rails.dry_run:
            yield Check("tools", "dry_run", "redact", only_shown(rails.dry_run.names))

    def _texts(
        self, where: Where, secrets: SecretsRead | None, private_: PrivateRead | None, words: WordsRead | None
    ) -> Iterator[Check]:
        if secrets:
            yield Check(
                where, "secrets", secrets.action, self._private(("secret",), secrets.allow, "secrets")
            )
        if private_:
            kinds = private_.kinds
            yield Check(
                where, "private", private_.action, self._private(kinds, private_.allow, "private data")
            )
        if words:
            lists: dict[str, tuple[str, ...]] = {name: shipped(name) for name in words.lists}
            lists |= {name: words_in(self._text(name)) for name in words.files}
            lists |= {"words": words.words} if words.words else {}
            yield Check(where, "words", words.action, unwanted(lists))

    def _private(self, kinds: Sequence[str] | None, allow: Sequence[str], what: str) -> Find:
        from tunesmith.curating.privacy import KINDS, PrivacySettings, find_private

        chosen = [kind for kind in KINDS if kind != "secret"] if kinds is None else list(kinds)
        try:
            settings = PrivacySettings.model_validate({"kinds": chosen, "allow": list(allow)})
        except ValidationError as error:
            raise ConfigError(
                f"of the kinds of private data, {', '.join(chosen)}, one is none",
                hint=f"There are {', '.join(KINDS)}.",
            ) from error
        return private(partial(find_private, settings=settings), what)

    def _catalogue_of(self, named_: str | None) -> Catalogue:
        from tunesmith.catalogue import Catalogue

        if named_ is None:
            if self._catalogue is None:
                raise ConfigError(
                    "[output.calls] does not say what may be called",
                    hint='Name it: catalogue = "FOLDER", a project\'s folder, or a catalogue.json of one.',
                )
            return self._catalogue
        path = self._folder / named_
        if path.is_dir():
            made = [each for each in Store(path / ".tunesmith").list() if each.stage == "collect"]
            if not made:
                raise _wrong(named_, "nothing was collected there: tunesmith run collect")
            path = made[-1].file("catalogue.json").absolute()
        try:
            return Catalogue.from_json(self._text(str(path)))
        except DatasetError as error:
            raise _wrong(named_, error.message) from error

    def _schema(self) -> Callable[[str], str]:
        return lambda file: self._checked(file, self._json(file))

    def _checked(self, file: str, schema: Any) -> str:
        from tunesmith.operations import validator

        text = json.dumps(schema)
        try:
            validator(text)
        except ValueError as error:
            raise _wrong(file, f"it holds no JSON schema: {error}") from error
        return text

    def _corpus(self, file: str) -> list[str]:
        return list(texts_in(self._folder / file, self._text(file)).values())

    def _json(self, file: str) -> Any:
        try:
            return json.loads(self._text(file))
        except ValueError as error:
            raise _wrong(file, f"it is no JSON: {error}") from error

    def _text(self, file: str) -> str:
        return _read(self._folder / file, "it")


def _encoder(address: str) -> Encoder:
    from tunesmith.models.address import load_encoder

    return load_encoder(address)
