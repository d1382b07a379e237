"""Prompts: short, true to the package, with the document in them."""

from __future__ import annotations

from dataclasses import replace

from tunesmith.catalogue import Catalogue
from tunesmith.generating.prompts import system_prompt, teacher_prompt
from tunesmith.records import Document


def test_the_system_prompt_names_the_package_and_the_form(catalogue: Catalogue) -> None:
    """One package is named with its version and import; several are named together."""
    both = replace(catalogue, package="shapes, solids", version="1.2, 3")

    assert system_prompt(catalogue) == (
        "You answer questions about the Python package shapes 1.2. Answer with one sentence and one Python "
        "code block that imports shapes and makes the call."
    )
    assert "packages shapes 1.2 and solids 3." in system_prompt(both)


def test_the_teacher_gets_the_document_and_the_count(
    catalogue: Catalogue, documents: tuple[Document, ...]
) -> None:
    """The teacher reads the whole document and is told how many questions to write."""
    system, user = teacher_prompt(catalogue.entries[0], documents[0], 3)

    assert (system.role, user.role) == ("system", "user")
    assert documents[0].text in user.content
    assert "Write 3 different questions" in user.content
