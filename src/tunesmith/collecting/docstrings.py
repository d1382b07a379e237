"""A docstring read in its package's own style: summary, parameters, returns, doctests, see-also."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tunesmith.catalogue import DocExample

if TYPE_CHECKING:
    import griffe

Style = Literal["numpy", "google", "sphinx"]

_STYLE_MARKS: Mapping[Style, str] = {
    "numpy": (
        r"^[ \t]*(?:Parameters|Returns|Yields|Raises|Examples?|Notes|See Also|Attributes)[ \t]*"
        r"\n[ \t]*-{3,}"
    ),
    "google": r"^[ \t]*(?:Args|Arguments|Returns|Yields|Raises|Examples?|Attributes|Keyword Args):[ \t]*$",
    "sphinx": r"^[ \t]*:(?:param|type|returns?|rtype|raises?|ivar)\b[^:\n]*:",
}
_NOT_A_SENTENCE_END = re.compile(r"\b(?:e\.g|i\.e|etc|vs|cf|resp|approx|al|Fig|Eq|No|St|Dr)\.$")


@dataclass(frozen=True, slots=True)
class Described:
    """What a docstring says of one parameter: its type as prose, None for none, and its meaning."""

    type: str | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a docstring says: `see_also` as written, `broken_doctest` why its examples do not parse."""

    summary: str = ""
    description: str = ""
    parameters: Mapping[str, Described] = field(default_factory=dict)
    returns: str = ""
    examples: tuple[DocExample, ...] = ()
    see_also: tuple[str, ...] = ()
    broken_doctest: str | None = None


def detect_style(docstrings: Iterable[str]) -> Style:
    """Return the style whose section marks occur most often; numpy where there are none at all."""
    counts: Counter[Style] = Counter()
    for docstring in docstrings:
        for style, mark in _STYLE_MARKS.items():
            counts[style] += len(re.findall(mark, docstring, flags=re.MULTILINE))
    return max(_STYLE_MARKS, key=lambda style: counts[style])


def imported_as(package: str, docstrings: Iterable[str]) -> str | None:
    """Return the name that the docstrings most often import the package under, None if they never do."""
    pattern = rf"\bimport[ \t]+{re.escape(package)}[ \t]+as[ \t]+(\w+)"
    counts = Counter(alias for docstring in docstrings for alias in re.findall(pattern, docstring))
    return min(counts, key=lambda alias: (-counts[alias], alias)) if counts else None


def is_deprecated(docstring: str) -> bool:
    """Tell whether the thing itself is deprecated, by a directive at the margin or its first words."""
    if re.search(r"^\.\. (?:deprecated|versionremoved)::", docstring, flags=re.MULTILINE):
        return True
    return re.match(r"\W*deprecated\b", docstring, flags=re.IGNORECASE) is not None


def read_docstring(found: griffe.Function | griffe.Class, style: Style) -> Reading:
    """Read an object's docstring; an empty Reading where there is none or it has no first sentence."""
    if found.docstring is None:
        return Reading()
    text = found.docstring.value.strip()
    sections = found.docstring.parse(style, warnings=False)
    prose = next((section.value for section in sections if section.kind.value == "text"), "")
    summary, description = split_summary(prose)
    examples, broken = read_doctests(text)
    return Reading(
        summary=summary,
        description=description,
        parameters=_parameter_descriptions(sections),
        returns=_returns(sections),
        examples=examples,
        see_also=tuple(read_see_also(text)),
        broken_doctest=broken,
    )


def split_summary(prose: str) -> tuple[str, str]:
    """Return the first sentence as plain text that ends with a full stop, and the rest as it is written."""
    paragraph, _, rest = prose.strip().partition("\n\n")
    if paragraph.startswith((">>>", ".. ", "- ", "* ")):
        return "", prose.strip()
    end = _sentence_end(paragraph)
    summary = plain(paragraph[:end])
    remainder = "\n\n".join(part for part in (paragraph[end:].strip(), rest.strip()) if part)
    if not re.search(r"\w", summary):
        return "", remainder
    return (summary if summary.endswith((".", "!", "?")) else f"{summary.rstrip(':;, ')}."), remainder


def _sentence_end(paragraph: str) -> int:
    for match in re.finditer(r"[.!?][\"')\]]?(?=\s)", paragraph):
        before = paragraph[: match.end()]
        following = paragraph[match.end() :].lstrip()[:1]
        if _NOT_A_SENTENCE_END.search(before) is None and not following.islower():
            return match.end()
    return len(paragraph)


def plain(text: str) -> str:
    """Return text without reStructuredText or Markdown marks, on one line."""
    text = re.sub(r":[\w:+-]+:`~?([^`<]*?)\s*(?:<[^`>]*>)?`", _role_text, text)
    text = re.sub(r"``([^`]*)``", r"\1", text)
    text = re.sub(r"`([^`<]*?)\s*(?:<[^`>]*>)?`_{0,2}", r"\1", text)
    text = re.sub(r"\s*\[(?:\d+|[A-Z]\w*)\]_", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"(?<![\w*])\*{1,2}(\w(?:[^*\n]*\w)?)\*{1,2}(?![\w*])", r"\1", text)
    text = re.sub(r"\\(?=[\\*`_|])", "", text)
    return " ".join(text.split())


def _role_text(match: re.Match[str]) -> str:
    shortened = match[0].partition("`")[2].startswith("~")
    return match[1].rpartition(".")[2] if shortened else match[1]


def _parameter_descriptions(sections: Sequence[griffe.DocstringSection]) -> dict[str, Described]:
    found: dict[str, Described] = {}
    for section in sections:
        if section.kind.value not in ("parameters", "other parameters"):
            continue
        for parameter in section.value:
            type_text = None if parameter.annotation is None else plain(str(parameter.annotation))
            described = Described(type_text or None, plain(str(parameter.description)))
            # NumPy docstrings describe several at once: `u, v : nodes`.
            for name in str(parameter.name).split(","):
                found.setdefault(name.strip().lstrip("*"), described)
    return found


def _returns(sections: Sequence[griffe.DocstringSection]) -> str:
    for section in sections:
        if section.kind.value in ("returns", "yields"):
            return "; ".join(filter(None, (_one_return(value) for value in section.value)))
    return ""


def _one_return(value: griffe.DocstringReturn | griffe.DocstringYield) -> str:
    annotation = plain(str(value.annotation)) if value.annotation is not None else ""
    head = " : ".join(filter(None, (value.name, annotation)))
    return ": ".join(filter(None, (head, plain(value.description))))


def read_doctests(docstring: str) -> tuple[tuple[DocExample, ...], str | None]:
    """Return the doctests one statement each, in order, and why they do not parse (then there are none)."""
    import doctest

    try:
        examples = doctest.DocTestParser().get_examples(docstring)
    except ValueError as error:
        return (), str(error)
    return tuple(
        DocExample(code=_without_flags(example.source), want=example.want.rstrip("\n"))
        for example in examples
    ), None


def _without_flags(source: str) -> str:
    return re.sub(r"[ \t]*#\s*doctest:.*$", "", source, flags=re.MULTILINE).rstrip("\n")


def read_see_also(docstring: str) -> Iterator[str]:
    """Yield the names in a See Also section or a `seealso` directive, as they are written."""
    for block in _see_also_blocks(docstring):
        for line in block:
            yield from _names(line)


def _see_also_blocks(docstring: str) -> Iterator[list[str]]:
    lines = docstring.splitlines()
    for index, line in enumerate(lines):
        following = lines[index + 1] if index + 1 < len(lines) else ""
        if re.fullmatch(r"\s*See Also\s*", line, re.IGNORECASE) and re.fullmatch(r"\s*-{3,}\s*", following):
            yield _margin_lines(lines[index + 2 :])
        elif re.fullmatch(r"\s*See Also:\s*", line, re.IGNORECASE):
            yield _indented_lines(lines[index + 1 :], line)
        elif directive := re.match(r"\s*\.\. seealso::(.*)", line):
            yield [directive[1], *_indented_lines(lines[index + 1 :], line)]


def _margin_lines(lines: Sequence[str]) -> list[str]:
    """Return the section's lines that stand at the margin, up to the next section's title."""
    found: list[str] = []
    for index, line in enumerate(lines):
        following = lines[index + 1] if index + 1 < len(lines) else ""
        if re.fullmatch(r"\s*[-=]{3,}\s*", following) or line.startswith(".. "):
            break
        if line and not line[0].isspace():
            found.append(line)
    return found


def _indented_lines(lines: Sequence[str], title: str) -> list[str]:
    margin = len(title) - len(title.lstrip())
    found: list[str] = []
    for line in lines:
        if line.strip() and len(line) - len(line.lstrip()) <= margin:
            break
        found.append(line)
    return found


def _names(line: str) -> Iterator[str]:
    """Yield the dotted names that a line lists, before the colon that starts their description."""
    listed = re.sub(r":[\w:]+:`~?\.?([^`<]*?)\s*(?:<[^`>]*>)?`", r"\1", line).strip().lstrip("-* ")
    listed = re.split(r"\s*:(?:\s|$)|\s+[–—-]\s+", listed, maxsplit=1)[0]
    for part in re.split(r"[,\s]+", listed):
        name = part.strip("`.").removesuffix("()")
        if re.fullmatch(r"[A-Za-z_][\w.]*", name) and name.lower() not in ("and", "or", "see", "also"):
            yield name
