"""Answers that are right by construction: one sentence from the summary, one call bound to the signature."""

from __future__ import annotations

import ast
import builtins
import keyword
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tunesmith.catalogue import Call, Catalogue, Entry, Parameter, bind, calls_in, judge
from tunesmith.generating.requests import request_code, tool_code
from tunesmith.generating.sentences import Predicate, first_sentence, predicate, shorten, third_person
from tunesmith.operations import Operation, ToolSchema
from tunesmith.records import Document, Evidence, Rejection

_LONGEST_ARGUMENT = 40
_LONGEST_CALL = 110


@dataclass(frozen=True, slots=True)
class DerivedAnswer:
    """An answer and its parts: `text` is `sentence` and a fenced block of `imports` and `call`.

    A tool's call has no imports.
    """

    entry: str
    text: str
    sentence: str
    imports: str
    call: str
    predicate: Predicate
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Derived:
    """The answers of a catalogue in the entries' order, and why some entries have none."""

    answers: tuple[DerivedAnswer, ...]
    rejections: tuple[Rejection, ...]


def derive_answers(documents: Iterable[Document], catalogue: Catalogue) -> Derived:
    """Derive the answer of every entry of the catalogue."""
    by_id = {document.id: document for document in documents}
    answers: list[DerivedAnswer] = []
    rejections: list[Rejection] = []
    for entry in catalogue.entries:
        document = by_id.get(entry.document)
        if document is None:
            rejections.append(
                Rejection("generate", "no document", entry.id, f"{entry.document!r} is not there")
            )
            continue
        made = derive_answer(entry, document, catalogue)
        if isinstance(made, DerivedAnswer):
            answers.append(made)
        else:
            rejections.append(made)
    return Derived(tuple(answers), tuple(rejections))


def derive_answer(entry: Entry, document: Document, catalogue: Catalogue) -> DerivedAnswer | Rejection:
    """Return the answer that calls `entry`, or the Rejection of an entry whose call would not judge as exact.

    The sentence is the docstring's summary; the call is the first of the doctest's calls that needs the
    fewest arguments renamed, else the required parameters under their own names. Variables such as `G` are
    the user's: the block has no set-up lines. That importing the package also loads the submodule of an entry
    such as `networkx.community.modularity` is not checked.

    An operation is called by httpx with all that it requires, a tool by the JSON of its name and arguments.
    """
    if entry.operation is not None:
        return _derive_described(entry, entry.operation, document, catalogue)
    said = predicate(entry.summary, entry.kind, entry.name)
    sentence = f"`{entry.id}` {said.text}."
    example = _doctest_call(entry, catalogue)
    arguments = _arguments_of(entry, example) if example else _required_arguments(entry)
    call = call_text(entry, arguments, catalogue)
    imports = import_line(entry, catalogue)
    text = answer_text(sentence, imports, call)
    judgement = judge(text, (entry.id,), catalogue)
    if judgement.verdict != "exact":
        return Rejection("generate", "call not exact", entry.id, f"{call}: {judgement.reason}")
    evidence = (_summary_evidence(entry, document), _doctest_evidence(example, document))
    return DerivedAnswer(
        entry.id, text, sentence, imports, call, said, tuple(piece for piece in evidence if piece is not None)
    )


def _derive_described(
    entry: Entry, operation: Operation | ToolSchema, document: Document, catalogue: Catalogue
) -> DerivedAnswer | Rejection:
    said = _said(entry)
    sentence = f"`{entry.id}` {said.text}."
    try:
        call = described_call(operation)
    except ValueError as error:
        return Rejection("generate", "no value fits", entry.id, str(error))
    imports = "import httpx" if isinstance(operation, Operation) else ""
    text = answer_text(sentence, imports, call)
    judgement = judge(text, (entry.id,), catalogue)
    if judgement.verdict != "exact":
        return Rejection("generate", "call not exact", entry.id, f"{call}: {judgement.reason}")
    evidence = _summary_evidence(entry, document)
    return DerivedAnswer(entry.id, text, sentence, imports, call, said, (evidence,) if evidence else ())


def described_call(operation: Operation | ToolSchema, also: str = "") -> str:
    """Return the call of what is required, and of the parameter `also`; ValueError where no value fits."""
    if isinstance(operation, Operation):
        return request_code(operation, also=also)
    return tool_code(operation, also=also)


# Verbs of APIs that docstrings hardly begin with.
_VERBS_OF_APIS = frozenset(
    (
        *(
            "accept",
            "acknowledge",
            "activate",
            "approve",
            "archive",
            "authenticate",
            "authorize",
            "autocomplete",
        ),
        *(
            "ban",
            "block",
            "book",
            "capture",
            "charge",
            "cleanse",
            "complete",
            "confirm",
            "deactivate",
            "decline",
        ),
        *(
            "deploy",
            "disable",
            "dismiss",
            "duplicate",
            "enroll",
            "favorite",
            "finalize",
            "follow",
            "grant",
            "import",
        ),
        *(
            "invite",
            "link",
            "lock",
            "migrate",
            "mint",
            "mute",
            "onboard",
            "pause",
            "pay",
            "pin",
            "ping",
            "post",
        ),
        *(
            "preview",
            "provision",
            "publish",
            "purchase",
            "purge",
            "quarantine",
            "queue",
            "reactivate",
            "redeem",
        ),
        *(
            "redeliver",
            "refund",
            "regenerate",
            "reject",
            "rerun",
            "resend",
            "restart",
            "resume",
            "revoke",
            "rotate",
        ),
        *(
            "schedule",
            "share",
            "star",
            "subscribe",
            "submit",
            "suspend",
            "sync",
            "terminate",
            "transfer",
            "trigger",
        ),
        *(
            "unarchive",
            "unassign",
            "unban",
            "unblock",
            "unfollow",
            "unlink",
            "unlock",
            "unmute",
            "unpin",
            "unpublish",
        ),
        *("unstar", "unsubscribe", "unsuspend", "upgrade", "upsert", "void", "whitelist"),
    )
)


def _said(entry: Entry) -> Predicate:
    """Return what an operation or a tool does; a summary of one word ("List") says less than the name does."""
    summary = sentence_case(entry.summary).rstrip(".")
    if len(summary.split()) < 2:
        summary = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", entry.name).strip().lower()
    verb, _, rest = summary.partition(" ")
    # "Block distribution" of what is read is a noun.
    is_read = isinstance(entry.operation, Operation) and entry.operation.method == "get"
    if verb.lower() in _VERBS_OF_APIS and rest and not is_read:
        rest = shorten(first_sentence(rest))
        return Predicate(f"{third_person(verb.lower())} {rest}", f"{verb.lower()} {rest}")
    return predicate(summary, entry.kind, entry.name)


def sentence_case(summary: str) -> str:
    """Return a summary whose words all begin with capitals, as titles do, in small letters: "List All Pets"."""
    words = summary.split()
    long = [word for word in words[1:] if len(word) > 3]
    if not long or not all(word[0].isupper() for word in long):
        return summary
    return " ".join([words[0], *(word.lower() if word[1:].islower() else word for word in words[1:])])


def answer_text(sentence: str, imports: str, call: str) -> str:
    """Return an answer in its one form: a sentence, and a Python block with the imports and the call.

    Without imports the call is a tool's, and the block is JSON.
    """
    if not imports:
        return f"{sentence}\n\n```json\n{call}\n```"
    return f"{sentence}\n\n```python\n{imports}\n\n{call}\n```"


def import_line(entry: Entry, catalogue: Catalogue) -> str:
    """Return the import that the entry's call needs, under the alias that people use."""
    package = entry.id.partition(".")[0]
    alias = _alias(package, catalogue)
    return f"import {package}" if alias == package else f"import {package} as {alias}"


def call_text(entry: Entry, arguments: str, catalogue: Catalogue) -> str:
    """Return the call as users write it: `nx.community.modularity(...)`, `G.add_edge(...)` for a method."""
    package, _, path = entry.id.partition(".")
    if entry.kind != "method":
        return f"{_alias(package, catalogue)}.{path}({arguments})"
    class_name = entry.id.split(".")[-2]
    return f"{_receiver(class_name, arguments)}.{entry.name}({arguments})"


def call_with(entry: Entry, parameter: Parameter, catalogue: Catalogue) -> str:
    """Return the call of the required parameters and of `parameter`, each under its own name.

    Raises ValueError where a body needs a value and none fits.
    """
    if entry.operation is not None:
        return described_call(entry.operation, parameter.name)
    required = _required_arguments(entry)
    if parameter.required:
        return call_text(entry, required, catalogue)
    named = f"{parameter.name}={_variable(parameter.name)}"
    return call_text(entry, ", ".join(filter(None, (required, named))), catalogue)


def _alias(package: str, catalogue: Catalogue) -> str:
    aliases = (
        alias for alias, name in catalogue.import_names.items() if name == package and alias != package
    )
    return next(aliases, package)


def _receiver(class_name: str, arguments: str) -> str:
    """Return what users call an object of the class: `G` for any graph, else its name in lower case."""
    if class_name.endswith("Graph") and not re.search(r"\bG\b", arguments):
        return "G"
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", class_name).lower()
    return _variable(words.lstrip("_"))


def _variable(name: str) -> str:
    """Return a name that a user's variable can have: `list` would be Python's own."""
    return f"my_{name}" if keyword.iskeyword(name) or hasattr(builtins, name) else name


def _required_arguments(entry: Entry) -> str:
    parts: list[str] = []
    for parameter in entry.parameters:
        if parameter.required:
            name = _variable(parameter.name)
            parts.append(f"{parameter.name}={name}" if parameter.kind == "keyword_only" else name)
    return ", ".join(parts)


# --- the call of a doctest


def _doctest_call(entry: Entry, catalogue: Catalogue) -> Call | None:
    """Return the entry's call in its doctests that keeps most of its arguments, the earliest of equals."""
    if not entry.examples:
        return None
    # The statements are one session; one that does not parse would hide the calls of all others.
    session = [example.code for example in entry.examples if _parses(example.code)]
    calls = [
        call
        for call in calls_in("\n".join(session), catalogue)
        if entry.id in call.candidates
        and not call.starred
        and not call.unbound
        and _fits(entry, call, catalogue)
    ]
    return min(calls, key=lambda call: _renamed(entry, call), default=None)


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError):
        return False
    return True


def _fits(entry: Entry, call: Call, catalogue: Catalogue) -> bool:
    short = len(call_text(entry, _arguments_of(entry, call), catalogue)) <= _LONGEST_CALL
    return short and bind(entry, call) is None


def _renamed(entry: Entry, call: Call) -> int:
    values = (*call.positional, *(value for _, value in call.keywords))
    return sum(not _is_simple(value) for value in values)


def _arguments_of(entry: Entry, call: Call) -> str:
    positional = [
        value if _is_simple(value) else _variable(name)
        for value, name in zip(call.positional, _positional_names(entry), strict=False)
    ]
    named = [f"{name}={value if _is_simple(value) else _variable(name)}" for name, value in call.keywords]
    return ", ".join((*positional, *named))


def _positional_names(entry: Entry) -> Iterator[str]:
    """Yield the name for each positional argument in turn, without end where the signature takes `*args`."""
    for parameter in entry.parameters:
        if parameter.kind in ("positional_only", "positional_or_keyword"):
            yield parameter.name
        elif parameter.kind == "var_positional":
            number = 1
            while True:
                yield f"{parameter.name}_{number}"
                number += 1


def _is_simple(source: str) -> bool:
    """Tell whether an argument can be shown as it is: a name, a dotted name, a literal, all of them short."""
    if len(source) > _LONGEST_ARGUMENT:
        return False
    return _is_plain(ast.parse(source, mode="eval").body)


def _is_plain(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant | ast.Name):
        return True
    if isinstance(node, ast.UnaryOp | ast.BinOp):
        return all(
            isinstance(part, ast.Constant | ast.UnaryOp | ast.BinOp | ast.operator | ast.unaryop)
            for part in ast.walk(node)
        )
    if isinstance(node, ast.Attribute):
        return _is_plain(node.value) and isinstance(node.value, ast.Name | ast.Attribute)
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return all(_is_plain(element) for element in node.elts)
    if isinstance(node, ast.Dict):
        return all(key is not None and _is_plain(key) for key in node.keys) and all(
            map(_is_plain, node.values)
        )
    return False


# --- the evidence


def quote_evidence(document: Document, start: int, end: int) -> Evidence:
    """Return the evidence for a stretch of a document."""
    return Evidence(document.source, document.id, start, end, document.text[start:end])


def find_quote(document: Document, quote: str) -> Evidence | None:
    """Return where the document has these words, however it breaks its lines and marks them up."""
    words = re.findall(r"\w+", quote)
    if not words:
        return None
    # Between two words: spaces, punctuation, and the name of a reStructuredText role.
    found = re.search(
        r"(?<!\w)" + r"(?:\W+|\W*:\w+:\W*)".join(map(re.escape, words)) + r"(?!\w)", document.text
    )
    return quote_evidence(document, found.start(), found.end()) if found else None


def _summary_evidence(entry: Entry, document: Document) -> Evidence | None:
    return find_quote(document, entry.summary)


def _doctest_evidence(call: Call | None, document: Document) -> Evidence | None:
    """Return the doctest's line that has the call; None without one, or if none has it."""
    if call is None:
        return None
    name = call.text.partition("(")[0]
    for start, line in _prompt_lines(document.text):
        if _squeezed(call.text) in _squeezed(line):
            return quote_evidence(document, start, start + len(line))
    for start, line in _prompt_lines(document.text):
        if f"{name}(" in line:
            return quote_evidence(document, start, start + len(line))
    return None


def _prompt_lines(text: str) -> Iterator[tuple[int, str]]:
    for match in re.finditer(r"^[ \t]*(>>> .*)$", text, flags=re.MULTILINE):
        yield match.start(1), match[1].rstrip()


def _squeezed(code: str) -> str:
    """Return code without spaces and with one kind of quote, as `ast.unparse` leaves it."""
    return re.sub(r"\s+", "", code).replace('"', "'")
