"""What models are told: how to answer, and how a teacher writes questions from a document."""

from __future__ import annotations

from tunesmith.catalogue import Catalogue, Entry
from tunesmith.operations import Operation, ToolSchema
from tunesmith.records import Conversation, Document, Message

_LONGEST_DOCUMENT = 6000


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
