"""What an example that a model wrote must pass: form, language, quotes, numbers, names, symbols, code.

Each gate looks at one thing and needs nothing but the source, so that it costs nothing and always says the same. What
needs a model is in `rounds`. What each catches and what it wrongly rejects is measured: benchmarks/filter_quality.py.
"""

from __future__ import annotations

import ast
import builtins
import doctest
import keyword
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from tunesmith.catalogue import Catalogue, bind, calls_in
from tunesmith.languages import foreign_part

Style = Literal[
    "factual", "how-to", "code", "comparison", "troubleshooting", "not in the material", "multi-turn"
]
FEWEST_QUOTED_WORDS: Final = 3
_LONGEST_QUESTION, _LONGEST_ANSWER = 800, 6000
_FENCE = re.compile(r"^[ \t]*```([\w+.-]*)[^\n]*\n(.*?)(?:^[ \t]*```[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_PYTHON = frozenset({"python", "py", "python3", "pycon"})
# Words after which a sentence cannot end, in the languages that py3langid tells apart best here.
_DANGLING_LIST = """
a an the and or but of to for with as by from in on at into than that which such e.g i.e is are was be can will if when
because while via using like including und oder der die das ein eine mit von zu et ou le la les des un une de y o el los
las con por para
"""
_DANGLING: Final = frozenset(_DANGLING_LIST.split())
_REFUSALS = re.compile(
    r"\b(?:not|n[o']t|no|never|nothing|neither|none|without|unclear|unspecified|silent|kein\w*|nicht|pas|aucun\w*|"
    r"ne|sin)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Pair:
    """An example as a model proposes it; only a conversation has several turns."""

    style: Style
    turns: tuple[Turn, ...]
    quotes: tuple[str, ...]

    @property
    def question(self) -> str:
        """All that is asked."""
        return "\n".join(turn.question for turn in self.turns)

    @property
    def answer(self) -> str:
        """All that is answered."""
        return "\n\n".join(turn.answer for turn in self.turns)


@dataclass(frozen=True)
class Ground:
    """What a pair is held against: the text that its author was shown, and the catalogue if there is one."""

    text: str
    title: str = ""
    catalogue: Catalogue | None = None

    @cached_property
    def words(self) -> frozenset[str]:
        """All words and names of the text and its title, folded, the parts of compound ones as well."""
        return frozenset(_name_parts(f"{self.title}\n{self.text}"))

    @cached_property
    def numbers(self) -> frozenset[str]:
        """All numbers of the text and its title, those that are written in letters too."""
        return frozenset(_numbers(f"{self.title}\n{self.text}", spelled=True))

    @cached_property
    def calls(self) -> Mapping[str, frozenset[_Call]]:
        """The calls that the text shows, by their names' last parts."""
        found: dict[str, set[_Call]] = {}
        for call in _calls_of(self.text):
            found.setdefault(call.name, set()).add(call)
        return {name: frozenset(calls) for name, calls in found.items()}

    @cached_property
    def keywords(self) -> frozenset[str]:
        """The names that the text speaks of as arguments: with an equals sign or a colon, or in backticks."""
        return frozenset(re.findall(r"\b([A-Za-z_]\w*)\s*[=:]", self.text)) | frozenset(
            name
            for span in re.findall(r"`([^`\n]+)`", self.text)
            for name in re.findall(r"[A-Za-z_]\w*", span)
        )

    @cached_property
    def catalogue_words(self) -> frozenset[str]:
        """The names of everything that may be called, and of its parameters."""
        if self.catalogue is None:
            return frozenset()
        names = [entry.id for entry in self.catalogue.entries]
        names += [parameter.name for entry in self.catalogue.entries for parameter in entry.parameters]
        return frozenset(
            part for name in (*names, *self.catalogue.import_names) for part in _name_parts(name)
        )


@dataclass(frozen=True, slots=True)
class Gate:
    """A named rule; `defect` says what is wrong with a pair, None if nothing is."""

    name: str
    defect: Callable[[Pair, Ground], str | None]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The first gate that a pair does not pass, and why."""

    gate: str
    detail: str


def first_stop(pair: Pair, ground: Ground, gates: Iterable[Gate] | None = None) -> Stopped | None:
    """Return the first gate that a pair does not pass, None if it passes all."""
    for gate in GATES if gates is None else gates:
        detail = gate.defect(pair, ground)
        if detail is not None:
            return Stopped(gate.name, detail)
    return None


# --- form


def _form(pair: Pair, _: Ground) -> str | None:
    if not pair.turns or (pair.style == "multi-turn") != (len(pair.turns) > 1):
        return f"{len(pair.turns)} turn(s) do not make a {pair.style} example"
    for turn in pair.turns:
        found = _form_of(turn)
        if found is not None:
            return found
    if pair.style == "not in the material" and not _REFUSALS.search(pair.answer):
        return f"the answer does not say that the material is silent: {_short(pair.answer)}"
    return None


def _form_of(turn: Turn) -> str | None:
    if len(turn.question.split()) < 2:
        return f"the question has {len(turn.question.split())} word(s)"
    if not turn.answer.strip():
        return "the answer is empty"
    if len(turn.question) > _LONGEST_QUESTION:
        return (
            f"the question has {len(turn.question):,} characters, at most {_LONGEST_QUESTION:,} are allowed"
        )
    if len(turn.answer) > _LONGEST_ANSWER:
        return f"the answer has {len(turn.answer):,} characters, at most {_LONGEST_ANSWER:,} are allowed"
    if re.search(
        r"\b(?:according to|in|from) the (?:text|passage|document|excerpt)\b", turn.question, re.I
    ) or re.search(r"\b(?:text|passage|document) above\b", turn.question, re.I):
        return f"the question speaks of a text that nobody sees: {_short(turn.question)}"
    return cut_off(turn.answer)


def cut_off(answer: str) -> str | None:
    """Return what shows that an answer ends before its end, if anything does."""
    text = answer.rstrip()
    if text.count("```") % 2:
        return "a code block is not closed"
    prose = _FENCE.sub("\n", text)
    if prose.count("`") % 2:
        return "a backtick is not closed"
    opened = next((pair for pair in ("()", "[]", "{}") if prose.count(pair[0]) > prose.count(pair[1])), None)
    if opened:
        return f"a {opened[0]} is not closed"
    last = prose.rstrip().rpartition("\n")[2].strip()
    return f"it stops in the middle: …{last[-40:]}" if not text.endswith("```") and _is_open(last) else None


def _is_open(line: str) -> bool:
    """Tell whether a last line wants another word."""
    bare = re.sub(r"[*_`\"'”’»)\]]+$", "", line)
    if re.search(r"[.!?…。！？؟]$", bare):
        return False
    if re.search(r"[,;:({\[=+/–—-]$", bare) or (re.split(r"[\s(]+", bare.lower())[-1] in _DANGLING):
        return True
    return not _is_item(line) and len(bare.split()) > _LONGEST_PHRASE


_LONGEST_PHRASE = 5  # words that are an answer without being a sentence: "A tuple of two strings"


def _is_item(line: str) -> bool:
    return re.match(r"(?:[-*•|]|\d+[.)])\s*\S", line) is not None


# --- language


def _language(pair: Pair, ground: Ground) -> str | None:
    prose = _prose(pair.answer)
    return foreign_part(prose, like=f"{_prose(pair.question)}\n{ground.text}")


# --- quotes


def _quotes(pair: Pair, ground: Ground) -> str | None:
    if not pair.quotes and pair.style != "not in the material":
        return "nothing is quoted"
    for quote in pair.quotes:
        if len(re.findall(r"\w+", quote)) < FEWEST_QUOTED_WORDS:
            return f"the quote is too short to show anything: {quote!r}"
        if find_verbatim(ground.text, quote) is None:
            return f"not in the source: {_short(quote)}"
    return None


def find_verbatim(text: str, quote: str) -> tuple[int, int] | None:
    """Return where a text has a quote, from and to, however it breaks its lines, whichever dashes it has."""
    parts = [re.escape(_plain(word)) for word in quote.split()]
    if not parts:
        return None
    found = re.search(r"\s+".join(parts), _plain(text))
    return (found.start(), found.end()) if found else None


_PLAIN = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "–": "-", "—": "-", "\u00a0": " "})


def _plain(text: str) -> str:
    """Return a text with one kind of quotes and dashes; every character keeps its place."""
    return text.translate(_PLAIN)


# --- numbers

_SPELLED: Final = {
    word: str(number)
    for number, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
        ]
    )
} | {"twice": "2", "thrice": "3", "half": "50%", "double": "2", "hundred": "100", "thousand": "1000"}


def _numbers_gate(pair: Pair, ground: Ground) -> str | None:
    known = ground.numbers | frozenset(_numbers(pair.question, spelled=True))
    # A doctest's or an example's own values are the author's to choose.
    said = _numbers(_without_list_numbers(_prose(pair.answer)), spelled=False)
    for number in said:
        if number not in known and number.rstrip("%") not in known and not _is_rounded(number, known):
            return f"the number {number} is not in the source"
    return None


def _is_rounded(number: str, known: frozenset[str]) -> bool:
    """Tell whether a number with two decimals or more is one of the source's with more of them."""
    bare = number.rstrip("%")
    _, point, decimals = bare.partition(".")
    if not point or len(decimals) < _FEWEST_DECIMALS or "." in decimals:
        return False
    return any(
        f"{float(other):.{len(decimals)}f}" == bare for other in known if re.fullmatch(r"\d+\.\d{3,}", other)
    )


_FEWEST_DECIMALS: Final = 2


def _without_list_numbers(text: str) -> str:
    return re.sub(r"(?m)^\s*\d+[.)]\s", "", text)


def _numbers(text: str, *, spelled: bool) -> Iterator[str]:
    """Yield the numbers of a text in one form: 1,000 and 1 000 as 1000, 2.50 as 2.5, with % where they have it."""
    for match in re.finditer(r"(?<![\w.])v?(\d+(?:[.,_]\d+)*)(\s?%|\s?percent\b)?", text):
        whole = re.sub(r"(?<=\d)[,_](?=\d{3}(?!\d))", "", match[1])
        if re.fullmatch(r"\d+\.\d*0+", whole) and whole.count(".") == 1 and not match[0].startswith("v"):
            yield whole  # 3.10 is a version as well as a number
            whole = whole.rstrip("0").rstrip(".")
        yield whole + ("%" if match[2] else "")
        if match[2] and spelled:
            yield whole
    # 12px, 40x, Python3.11, 2nd
    for match in re.finditer(r"(?<=[A-Za-z])\d+(?:\.\d+)*|(?<![\w.])\d+(?:\.\d+)*(?=[A-Za-z])", text):
        yield match[0]
    if spelled:
        for word in re.findall(r"[a-z]+", text.lower()):
            if word in _SPELLED:
                yield _SPELLED[word]


# --- names of people, products, places


def _names(pair: Pair, ground: Ground) -> str | None:
    if pair.style == "not in the material":
        return None  # what the material does not have may well be named
    known = ground.words | frozenset(_name_parts(pair.question)) | ground.catalogue_words
    for sentence in re.split(r"(?<=[.!?:])\s+|\n+", _prose(pair.answer)):
        words = re.findall(r"[^\W\d_][\w'’-]*", sentence)
        for word in words[1:]:
            bare = re.sub(r"['’]s$", "", word)
            if bare[:1].isupper() and len(bare) > 1 and not _known(bare, known) and bare not in _COMMON_NAMES:
                return f"the name {bare} is not in the source"
    return None


_COMMON_NAMES: Final = frozenset({"I", "OK", "TRUE", "FALSE", "YES", "NO", "NOT"})


# --- symbols: what code and words of code name

_SYMBOL = re.compile(
    r"(?<![\w-])--?[a-zA-Z][\w-]+"  # an option
    r"|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+"  # a dotted name
    r"|[A-Za-z_]\w*(?=\()"  # something called
    r"|\b[a-z]+_\w+\b|\b_\w+\b|\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b"  # snake_case, CONSTANTS
    r"|\b[a-z]+[a-z0-9]*[A-Z]\w*\b|\b[A-Z][a-z0-9]+[A-Z]\w*\b"  # camelCase, CamelCase
)


def _symbols(pair: Pair, ground: Ground) -> str | None:
    known = ground.words | frozenset(_name_parts(pair.question)) | ground.catalogue_words | _PYTHON_WORDS
    own: frozenset[str] = frozenset()
    for language, code in _FENCE.findall(pair.answer):
        read = _read_code(code) if language.lower() in _PYTHON | {""} else None
        if read is None:
            continue
        own |= read.own
        for name in read.used:
            if not all(part in known | own for part in _split(name)):
                return f"the code names {name!r}, which is not in the source"
    for span in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", pair.answer):
        # An example's own strings and numbers are the author's to choose.
        for name in _spoken_symbols(re.sub(r"\"[^\"]*\"|'[^']*'", "''", span)):
            if not all(part in known | own for part in _split(name)):
                return f"{name!r} is not in the source"
    for name in _SYMBOL.findall(re.sub(r"`[^`]*`", " ", _FENCE.sub(" ", pair.answer))):
        if "/" not in name and not all(part in known | own for part in _split(name)):
            return f"{name!r} is not in the source"
    return None


def _spoken_symbols(span: str) -> list[str]:
    """Return the names in what stands in backticks."""
    return re.findall(r"--?[A-Za-z][\w-]+|[A-Za-z_][\w.]*[A-Za-z_]\w*|[A-Za-z_]\w{2,}", span)


def _split(name: str) -> list[str]:
    return [part for part in re.split(r"[.\s]+", name.lstrip("-").lower()) if part]


@dataclass(frozen=True, slots=True)
class _Code:
    own: frozenset[str]
    used: tuple[str, ...]


def _read_code(code: str) -> _Code | None:
    """Return which names a piece of Python makes itself and which it needs; None if it does not parse."""
    try:
        tree = ast.parse(without_prompts(code))
    except (SyntaxError, ValueError, RecursionError):
        return None
    own, used = set[str](), list[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (own.add if isinstance(node.ctx, ast.Store) else used.append)(node.id)
        elif isinstance(node, ast.arg):
            own.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.ExceptHandler):
            own.add(node.name or "")
        elif isinstance(node, ast.Attribute):
            used.append(node.attr)
        elif isinstance(node, ast.keyword) and node.arg:
            used.append(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                own.add(alias.asname or alias.name.partition(".")[0])
                if alias.name != "*" and not _is_standard(node, alias.name):
                    used.append(alias.name)
    lowered = frozenset(name.lower() for name in own)
    # A plain name that is nowhere made is a variable of the reader's ("data", "G"): nothing is claimed of it.
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    plain = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - called
    return _Code(lowered, tuple(name for name in used if name not in plain))


def _is_standard(node: ast.Import | ast.ImportFrom, name: str) -> bool:
    module = (node.module or "") if isinstance(node, ast.ImportFrom) else name
    return module.partition(".")[0] in sys.stdlib_module_names


def without_prompts(code: str) -> str:
    """Return the code of a doctest without its prompts and outputs; other code as it is."""
    lines = code.split("\n")
    if not any(re.match(r"\s*>>>", line) for line in lines):
        return code
    return "\n".join(
        match[1] or "" for line in lines if (match := re.match(r"\s*(?:>>>|\.\.\.)(?: (.*)|$)", line))
    )


_PYTHON_WORDS: Final = (
    frozenset(name.lower() for name in (*keyword.kwlist, *keyword.softkwlist, *dir(builtins)))
    | frozenset(
        name.lower() for kind in (str, bytes, list, dict, set, tuple, int, float) for name in dir(kind)
    )
    | frozenset(
        [
            "self",
            "cls",
            "args",
            "kwargs",
            "main",
            "read",
            "write",
            "close",
            "readline",
            "path",
            "stdin",
            "stdout",
            "argv",
        ]
    )
    | frozenset(["e.g", "i.e", "etc", "vs"])
)


# --- calls: as the source shows them


def _arguments(pair: Pair, ground: Ground) -> str | None:
    """Hold the calls of an answer's code against those of the same name in the source: keywords and their order."""
    shown = ground.calls
    for call in _calls_of(pair.answer):
        known = shown.get(call.name)
        if known is None or call in known:
            continue
        for word in call.keywords:
            if word not in ground.keywords and not any(word in other.keywords for other in known):
                return f"{call.name} is shown without the argument {word!r}"
        if len(call.positional) > 1:
            turned = (
                other
                for other in known
                if other.positional != call.positional and sorted(other.positional) == sorted(call.positional)
            )
            if next(turned, None) is not None:
                return f"{call.name} is shown with its arguments in another order"
    return None


@dataclass(frozen=True, slots=True)
class _Call:
    """A call in code: its name's last part, its arguments as they are written, the names of the others."""

    name: str
    positional: tuple[str, ...]
    keywords: tuple[str, ...]


def _calls_of(text: str) -> list[_Call]:
    """Return the calls in a text's code, in blocks and in backticks."""
    pieces = [code for language, code in _FENCE.findall(text) if language.lower() in _PYTHON | {""}]
    pieces += re.findall(r"(?<!`)`([^`\n]+\([^`\n]*\))`", text)
    pieces += re.findall(r"(?m)^[ \t]*(?:>>>|\.\.\.) (.+)$", text)
    found = []
    for piece in pieces:
        try:
            tree = ast.parse(without_prompts(piece).strip())
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                positional = tuple(ast.unparse(value) for value in node.args)
                found.append(_Call(name, positional, tuple(each.arg for each in node.keywords if each.arg)))
    return found


# --- code


def _code(pair: Pair, ground: Ground) -> str | None:
    for language, code in _FENCE.findall(pair.answer):
        if language.lower() not in _PYTHON:
            continue
        plain = without_prompts(code)
        try:
            ast.parse(plain)
        except (SyntaxError, ValueError, RecursionError) as error:
            return f"the code does not parse: {error}"
        found = None if ground.catalogue is None else _calls(plain, ground.catalogue)
        if found is not None:
            return found
    return None


def _calls(code: str, catalogue: Catalogue) -> str | None:
    for call in calls_in(code, catalogue):
        if not call.candidates:
            return f"{call.path} does not exist in {catalogue.package} {catalogue.version}"
        entries = [entry for path in call.candidates if (entry := catalogue.lookup(path)) is not None]
        reasons = [bind(entry, call) for entry in entries]
        if None not in reasons and reasons:
            return f"{call.path}: {reasons[0]}"
    return None


def sessions(answer: str) -> tuple[str, ...]:
    """Return an answer's blocks of Python that hold a doctest with an output that it promises."""
    parser = doctest.DocTestParser()
    found = []
    for _, code in _FENCE.findall(answer):
        try:
            examples = parser.get_examples(code)
        except ValueError:
            continue
        if any(example.want for example in examples):
            found.append(code)
    return tuple(found)


GATES: Final = (
    Gate("form", _form),
    Gate("language", _language),
    Gate("quotes", _quotes),
    Gate("numbers", _numbers_gate),
    Gate("names", _names),
    Gate("symbols", _symbols),
    Gate("arguments", _arguments),
    Gate("code", _code),
)


def _prose(text: str) -> str:
    """Return a text without its blocks of code and what stands in backticks."""
    return re.sub(r"`[^`\n]*`", " ", _FENCE.sub("\n", text))


def _name_parts(text: str) -> Iterator[str]:
    """Yield all names in a text, folded: whole, split at points and hyphens, and at the humps of camels."""
    for word in re.findall(r"[^\W\d_][\w'’.-]*|_\w+|\d\w*", text):
        plain = word.strip("'’.-").lower()
        yield plain
        yield from re.split(r"[.'’-]+", plain)
        yield from (part.lower() for part in re.split(r"[_.'’-]+|(?<=[a-z0-9])(?=[A-Z])", word) if part)


def _known(word: str, known: frozenset[str] | set[str]) -> bool:
    folded = word.lower()
    if folded in known or folded.rstrip("s") in known or f"{folded}s" in known:
        return True
    return all(part in known for part in re.split(r"['’-]+", folded) if part)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 80 else f"{line[:77]}...")
