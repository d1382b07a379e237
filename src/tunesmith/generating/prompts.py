"""What models are told: how to answer, how a teacher writes and checks examples; the latter as files to change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import Final, Literal, get_args

from tunesmith.catalogue import Catalogue, Entry
from tunesmith.errors import ConfigError
from tunesmith.operations import Operation, ToolSchema
from tunesmith.records import Conversation, Document, Message

_LONGEST_DOCUMENT = 6000

PromptName = Literal["write", "answer_from_source", "answer_alone", "same_answer", "judge"]
#: What each prompt is filled with; a prompt need not use all of it.
FIELDS: Final[Mapping[PromptName, frozenset[str]]] = {
    "write": frozenset({"title", "document", "count", "persona", "difficulty", "styles"}),
    "answer_from_source": frozenset({"document", "question"}),
    "answer_alone": frozenset({"question"}),
    "same_answer": frozenset({"question", "first", "second"}),
    "judge": frozenset({"document", "question", "answer"}),
}
_NEEDED: Final[Mapping[PromptName, frozenset[str]]] = {
    "write": frozenset({"document"}),
    "answer_from_source": frozenset({"document", "question"}),
    "answer_alone": frozenset({"question"}),
    "same_answer": frozenset({"first", "second"}),
    "judge": frozenset({"document", "question", "answer"}),
}


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts that a teacher and a judge are given: the text of each by its name."""

    texts: Mapping[PromptName, str]

    def fill(self, name: PromptName, **fields: object) -> Conversation:
        """Return a prompt with its fields filled in."""
        return (Message("user", Template(self.texts[name]).substitute(fields)),)


@cache
def default_prompts() -> Prompts:
    """Return the prompts as Tunesmith brings them."""
    folder = Path(__file__).with_name("templates")
    return Prompts(
        {name: (folder / f"{name}.md").read_text(encoding="utf-8") for name in get_args(PromptName)}
    )


def load_prompts(folder: Path | None) -> Prompts:
    """Return the prompts of a folder's files (`write.md`, ...), and the usual one where it has none.

    Raises ConfigError that names all files whose fields are unknown, missing or broken, and those that are no prompt.
    """
    usual = default_prompts()
    if folder is None:
        return usual
    if not folder.is_dir():
        raise ConfigError(
            f"there is no folder of prompts {folder}",
            hint="Write the usual ones there: tunesmith prompts --out FOLDER",
        )
    names = set(get_args(PromptName))
    strangers = [
        f"{path.name}: no prompt has this name"
        for path in sorted(folder.glob("*.md"))
        if path.stem not in names
    ]
    texts = dict(usual.texts)
    faults = list(strangers)
    for name in FIELDS:
        file = folder / f"{name}.md"
        if file.is_file():
            texts[name] = file.read_text(encoding="utf-8")
            faults += [f"{file.name}: {fault}" for fault in _faults(name, texts[name])]
    if faults:
        raise ConfigError(
            f"the prompts in {folder} cannot be used:\n" + "\n".join(f"  {fault}" for fault in faults),
            hint="A field is written $name, a dollar sign $$. Prompts: "
            + ", ".join(f"{n}.md" for n in FIELDS),
        )
    return Prompts(texts)


def write_prompts(folder: Path) -> tuple[Path, ...]:
    """Write the usual prompts to a folder, to be changed there; files that are there already are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in default_prompts().texts.items():
        file = folder / f"{name}.md"
        if not file.exists():
            file.write_text(text, encoding="utf-8")
            written.append(file)
    return tuple(written)


def _faults(name: PromptName, text: str) -> list[str]:
    template = Template(text)
    if not template.is_valid():
        return ["a $ that begins no field"]
    used = set(template.get_identifiers())
    known = ", ".join(f"${field}" for field in sorted(FIELDS[name]))
    unknown = [f"${field} is no field of it; known are {known}" for field in sorted(used - FIELDS[name])]
    return unknown + [f"${field} is missing" for field in sorted(_NEEDED[name] - used)]


def system_prompt(catalogue: Catalogue) -> str:
    """Return the instruction that every contender gets: the package, its version, and an answer's form.

    APIs and servers of tools have theirs, after that of the packages.
    """
    said = (_packages_prompt(catalogue), _apis_prompt(catalogue), _tools_prompt(catalogue))
    return " ".join(filter(None, said))


def _packages_prompt(catalogue: Catalogue) -> str:
    every = zip(catalogue.packages, catalogue.version.split(", "), strict=True)
    versions = [(name, version) for name, version in every if name in catalogue.importable]
    if not versions:
        return ""
    named = " and ".join(f"{name} {version}" for name, version in versions)
    noun = "package" if len(versions) == 1 else "packages"
    imported = versions[0][0] if len(versions) == 1 else "what it needs"
    return (
        f"You answer questions about the Python {noun} {named}. Answer with one sentence and one Python code "
        f"block that imports {imported} and makes the call."
    )


def text_system_prompt(name: str) -> str:
    """Return the instruction for questions about documents."""
    return (
        f"You answer questions about {name}, from its documentation. Say what the documentation says and nothing else; "
        f"if it does not say, say so."
    )


def _apis_prompt(catalogue: Catalogue) -> str:
    versions = dict(zip(catalogue.packages, catalogue.version.split(", "), strict=True))
    apis: dict[str, str] = {}
    for entry in catalogue.entries:
        if isinstance(entry.operation, Operation):
            version = versions[entry.id.partition(".")[0]]
            server = next(iter(entry.operation.servers), "")
            place = server if "://" in server else "at base_url, a variable"
            apis.setdefault(entry.operation.api, f'"{entry.operation.api}" {version} ({place})')
    if not apis:
        return ""
    noun = "HTTP API" if len(apis) == 1 else "HTTP APIs"
    return (
        f"You answer questions about the {noun} {' and '.join(apis.values())}. Answer with one sentence and one "
        "Python code block that imports httpx and makes the request; what proves who asks is a variable: token, "
        "api_key, or username and password."
    )


def _tools_prompt(catalogue: Catalogue) -> str:
    servers = {
        entry.operation.server for entry in catalogue.entries if isinstance(entry.operation, ToolSchema)
    }
    if not servers:
        return ""
    return (
        f"You answer questions about the tools of {' and '.join(sorted(servers))}. Answer with one sentence and one "
        'JSON code block with the call: {"name": "...", "arguments": {...}}.'
    )


def teacher_prompt(entry: Entry, document: Document, count: int) -> Conversation:
    """Return the request for `count` questions that the entry answers, each with a verbatim quote."""
    return (
        Message(
            "system",
            "You write questions as real users ask them: students, analysts and engineers of different "
            "fields, who know their problem and not the documentation.",
        ),
        Message(
            "user",
            f"Documentation of {_a_kind(entry)}:\n\n"
            f"<document>\n{document.text[:_LONGEST_DOCUMENT]}\n</document>\n\n"
            f"Write {count} different questions to which a call of this {entry.kind} is the right answer. "
            f"Each from another person with another task, in that person's own words, short and long ones "
            f"mixed; never with the name of the {entry.kind}, and not in the documentation's words. Each "
            f"must be enough to tell this {entry.kind} from similar ones.\n"
            f"Answer with {count} lines and nothing else, each a JSON object: "
            '{"question": "...", "quote": "words of the document, copied exactly, that show it answers"}',
        ),
    )


def _a_kind(entry: Entry) -> str:
    match entry.operation:
        case Operation(api=api):
            return f"an operation of the HTTP API {api}"
        case ToolSchema(server=server):
            return f"a tool of {server}"
    return f"a {entry.kind} of the Python package {entry.id.partition('.')[0]}"
