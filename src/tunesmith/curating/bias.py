"""How groups of people are spoken of in training data: how often, with which words, and if a swap changes answers.

Shown to a person and never mended: a hospital's data speaks of women more than of men, and rightly so.

- Mentions: rows that name a group, and of those the share with a harsh or a kind word within eight words of it.
- Counterfactual pairs: two rows whose questions are the same but for the group (he or she, Ali or Paul), with answers
  that are not the same even when the group is left out of them (Kusner et al. 2017, arXiv:1703.06856, asked of the data
  itself).

Not covered: other languages than English, irony, pictures of a group that name it by no listed word, pairs in other
words.
Words are matched whole; some mean something else as well ("white", "old"), which no list can tell.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from tunesmith.curating.similarity import words

#: Dimension, group, and the words that name it.
GROUPS: Final[Mapping[str, Mapping[str, str]]] = {
    "gender": {
        "women": "she her hers herself woman women girl girls lady ladies mother mothers wife wives daughter sister "
        "aunt grandmother female females actress waitress businesswoman",
        "men": "he him his himself man men boy boys gentleman gentlemen father fathers husband husbands son brother "
        "uncle grandfather male males actor waiter businessman",
    },
    "age": {
        "young people": "teenager teenagers teen teens youngster youngsters millennial millennials kids",
        "old people": "elderly pensioner pensioners senior seniors retiree retirees grandparents",
    },
    "religion": {
        "Christians": "christian christians catholic catholics protestant protestants",
        "Muslims": "muslim muslims islamic",
        "Jews": "jew jews jewish",
        "Hindus": "hindu hindus",
        "Buddhists": "buddhist buddhists",
        "atheists": "atheist atheists",
    },
    "origin": {
        "Africans": "african africans nigerian nigerians kenyan kenyans",
        "Asians": "asian asians chinese japanese korean koreans indian indians pakistani pakistanis",
        "Arabs": "arab arabs arabic syrian syrians iraqi iraqis",
        "Europeans": "european europeans german germans french british english italian italians polish poles",
        "Latin Americans": "latino latinos latina latinas hispanic hispanics mexican mexicans",
        "Americans": "american americans",
        "migrants": "immigrant immigrants migrant migrants refugee refugees foreigner foreigners",
    },
    "orientation": {
        "gay and lesbian people": "gay gays lesbian lesbians homosexual homosexuals",
        "bisexual people": "bisexual bisexuals",
        "transgender people": "transgender trans transsexual",
        "heterosexual people": "heterosexual heterosexuals straight",
    },
    "disability": {
        "disabled people": "disabled handicapped wheelchair blind deaf autistic autism",
    },
    "colour": {
        "black people": "black blacks",
        "white people": "white whites caucasian caucasians",
    },
}
_AMBIGUOUS_LIST = "black white blind straight senior seniors polish arabic kids trans"
_AMBIGUOUS: Final = frozenset(_AMBIGUOUS_LIST.split())
# What makes people of an ambiguous word that stands before it.
_PEOPLE_LIST = """
people person persons man men woman women boy boys girl girls citizen citizens guy guys family families community
student students child children
"""
_PEOPLE: Final = frozenset(_PEOPLE_LIST.split())
_HARSH_LIST = """
bad worse worst stupid dumb lazy crime criminal criminals violent violence terrorist terrorists terrorism dangerous
poor dirty ugly weak inferior aggressive angry emotional hysterical irrational incompetent illegal thief steal drunk
uneducated primitive backward evil hate hated disgusting greedy dishonest liar lie burden useless worthless fail fails
failed problem problems threat cheat
"""
_KIND_LIST = """
good better best smart clever brilliant intelligent kind honest hardworking strong brave successful talented skilled
capable competent friendly generous wise loyal reliable creative leader leaders expert experts excellent great respected
admired beautiful gentle caring rational
"""
_HARSH, _KIND = frozenset(_HARSH_LIST.split()), frozenset(_KIND_LIST.split())
_WINDOW: Final = 8
_LINES_KEPT: Final = 5
_MOST_PAIRS: Final = 200
# Given names that are read as a gender or an origin: in the place of one may stand any other.
_NAMES_LIST = """
john paul peter david michael james robert mary anna susan linda sarah emma laura julia ali ahmed mohammed fatima aisha
wei chen carlos maria jamal lakisha emily greg
"""
_NAMES: Final = frozenset(_NAMES_LIST.split())


@dataclass(frozen=True, slots=True)
class Spoken:
    """How often rows name a group, and with which words near it; the first lines with harsh ones."""

    dimension: str
    group: str
    rows: int
    harsh: int
    kind: int
    lines: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """Two rows that ask the same about different groups and are answered otherwise, by their lines and questions."""

    line: int
    other: int
    question: str
    other_question: str


@dataclass(frozen=True, slots=True)
class Bias:
    """What was found: each group that is named, by dimension, and pairs whose answers hang on the group."""

    rows: int
    spoken: tuple[Spoken, ...]
    pairs: tuple[Counterfactual, ...]


@dataclass
class Listening:
    """Takes row after row, and then tells how groups are spoken of; of rows without a group it keeps nothing."""

    rows: int = 0
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    lines: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    asked: dict[str, list[tuple[int, str, str]]] = field(default_factory=dict)

    def add(self, line: int, question: str, answer: str) -> None:
        """Take a row."""
        self.rows += 1
        said = words(f"{question}\n{answer}")
        if _all_terms().isdisjoint(said):
            return
        for dimension, group, harsh, kind in _mentions(said):
            self.counts[dimension, group, "rows"] += 1
            self.counts[dimension, group, "harsh"] += harsh
            self.counts[dimension, group, "kind"] += kind
            kept = self.lines.setdefault((dimension, group), [])
            if harsh and len(kept) < _LINES_KEPT:
                kept.append(line)
        neutral = _neutral(question)
        if neutral != " ".join(words(question)):
            self.asked.setdefault(neutral, []).append((line, question, _neutral(answer)))

    def told(self) -> Bias:
        """Return what was found."""
        spoken = tuple(
            Spoken(
                dimension,
                group,
                self.counts[dimension, group, "rows"],
                self.counts[dimension, group, "harsh"],
                self.counts[dimension, group, "kind"],
                tuple(self.lines.get((dimension, group), ())),
            )
            for dimension, groups in GROUPS.items()
            for group in groups
            if self.counts[dimension, group, "rows"]
        )
        return Bias(self.rows, spoken, tuple(self._pairs())[:_MOST_PAIRS])

    def _pairs(self) -> Iterator[Counterfactual]:
        for rows in self.asked.values():
            line, question, answer = rows[0]
            for other, asked, answered in rows[1:]:
                if words(asked) != words(question) and answered != answer:
                    yield Counterfactual(line, other, question, asked)
                    break


def _mentions(said: Sequence[str]) -> Iterator[tuple[str, str, bool, bool]]:
    """Yield each group that is named, and whether a harsh and a kind word stands near it."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, word in enumerate(said):
        for named in _terms().get(word, ()):
            if word not in _AMBIGUOUS or not _PEOPLE.isdisjoint(said[place + 1 : place + 3]):
                places.setdefault(named, []).append(place)
    for (dimension, group), found in places.items():
        near = {word for place in found for word in said[max(0, place - _WINDOW) : place + _WINDOW + 1]}
        yield dimension, group, not _HARSH.isdisjoint(near), not _KIND.isdisjoint(near)


def _neutral(text: str) -> str:
    """Return a text's words with each group of people replaced by its dimension."""
    return " ".join(_dimension(word) or word for word in words(text))


def _dimension(word: str) -> str | None:
    if word in _NAMES:
        return "⟨someone⟩"
    named = _terms().get(word)
    return None if named is None or word in _AMBIGUOUS else f"⟨{named[0][0]}⟩"


@cache
def _terms() -> dict[str, tuple[tuple[str, str], ...]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for dimension, groups in GROUPS.items():
        for group, listed in groups.items():
            for word in re.split(r"\s+", listed):
                found.setdefault(word, []).append((dimension, group))
    return {word: tuple(named) for word, named in found.items()}


@cache
def _all_terms() -> frozenset[str]:
    return frozenset(_terms()) | _NAMES
