"""What becomes of private data in examples: shown, blacked out, made up anew, or the example left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

from tunesmith.curating.privacy.find import PrivacySettings, find_private, redact
from tunesmith.curating.privacy.finding import Finding
from tunesmith.curating.privacy.pseudonyms import Pseudonyms
from tunesmith.records import Example, Rejection

Handling = Literal["report", "redact", "pseudonymise", "reject", "off"]


def text_handling(handling: Handling, settings: PrivacySettings, seed: int = 0) -> Callable[[str], str]:
    """Return what is done to a text: blacked out, or with other values, the same for the same ones; else nothing."""
    if handling == "redact":
        return lambda text: redact(text, find_private(text, settings))
    if handling == "pseudonymise":
        pseudonyms = Pseudonyms(seed)
        return lambda text: pseudonyms.replace(text, find_private(text, settings))
    return lambda text: text


def example_handling(
    handling: Handling, settings: PrivacySettings, seed: int = 0
) -> Callable[[Example], Example | Rejection]:
    """Return what is done to an example; what was changed is noted among its checks.

    Its evidence is what stands in the source and stays as it is: it is for the project's own eyes.
    """
    change = text_handling(handling, settings, seed)

    def handled(example: Example) -> Example | Rejection:
        found = (
            list(private_in(example, settings)) if handling in ("redact", "pseudonymise", "reject") else []
        )
        if not found:
            return example
        if handling == "reject":
            detail = ", ".join(f"{each.kind}: {masked(each)}" for each in found)
            return Rejection("curate", "private data", example.id, f"{example.origin}: {detail}")
        return replace(
            example,
            question=change(example.question),
            answer=change(example.answer),
            messages=tuple(replace(each, content=change(each.content)) for each in example.messages),
            checks=(*example.checks, f"private data: {handling}d"),
        )

    return handled


def private_in(example: Example, settings: PrivacySettings) -> Iterator[Finding]:
    """Yield what is private in all that is said in an example."""
    for text in (*(message.content for message in example.messages), example.question, example.answer):
        yield from find_private(text, settings)


def masked(finding: Finding) -> str:
    """Return enough of a value to find it by, and not all of it."""
    value = " ".join(finding.value.split())
    return f"{value[:3]}…{value[-2:]}" if len(value) > 8 else f"{value[:2]}…"
