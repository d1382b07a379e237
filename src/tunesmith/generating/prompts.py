"""What models are told: how to answer, and how a teacher writes questions from a document."""

from __future__ import annotations

from tunesmith.catalogue import Catalogue, Entry
from tunesmith.records import Conversation, Document, Message

_LONGEST_DOCUMENT = 6000


def system_prompt(catalogue: Catalogue) -> str:
    """Return the instruction that every contender gets: the package, its version, and an answer's form."""
    versions = catalogue.version.split(", ")
    named = " and ".join(
        f"{name} {version}" for name, version in zip(catalogue.packages, versions, strict=True)
    )
    noun = "package" if len(versions) == 1 else "packages"
    imported = catalogue.package if len(versions) == 1 else "what it needs"
    return (
        f"You answer questions about the Python {noun} {named}. Answer with one sentence and one Python code "
        f"block that imports {imported} and makes the call."
    )


def teacher_prompt(entry: Entry, document: Document, count: int) -> Conversation:
    """Return the request for `count` questions that the entry answers, each with a verbatim quote."""
    package = entry.id.partition(".")[0]
    return (
        Message(
            "system",
            "You write questions as real users ask them: students, analysts and engineers of different "
            "fields, who know their problem and not the documentation.",
        ),
        Message(
            "user",
            f"Documentation of a {entry.kind} of the Python package {package}:\n\n"
            f"<document>\n{document.text[:_LONGEST_DOCUMENT]}\n</document>\n\n"
            f"Write {count} different questions to which a call of this {entry.kind} is the right answer. "
            f"Each from another person with another task, in that person's own words, short and long ones "
            f"mixed; never with the name of the {entry.kind}, and not in the documentation's words. Each "
            f"must be enough to tell this {entry.kind} from similar ones.\n"
            f"Answer with {count} lines and nothing else, each a JSON object: "
            '{"question": "...", "quote": "words of the document, copied exactly, that show it answers"}',
        ),
    )
