"""How good an answer in words is, measured against a reference answer: from 0 to 1, by the field's measures.

What is not covered: a right answer in words that share nothing with the reference scores low in all of these but
`similarity`, and a wrong one that differs by a single number scores high. A judge, or a person, sees both.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from tunesmith.models.base import Encoder
from tunesmith.models.citations import numbers_in

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

#: The measures of every answer in words, the one that a verdict rests on unless a project says otherwise first.
MEASURES: Final = ("f1", "exact_match", "rouge_l", "chrf", "similarity")
#: Measures of some projects or answers only: labels, a judge's grades, code, citations, questions without an answer.
FURTHER: Final = (
    *("accuracy", "no_label", "judged", "judge_error", "parses", "resolves"),
    *("citation_precision", "citation_recall", "rightly_abstained", "wrongly_abstained"),
)
#: The measure of a retriever alone: a right passage is among those that it found.
FOUND: Final = "found"

_PLAIN_WORD = re.compile(r"[a-z0-9]+")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)

# What says that there is no answer, as the beginning of one. Who says so must be the speaker, the material, or the
# question: "if the limit is not given, it is 5" is an answer.
_NOT = r"(?:\s+not|n't)"
_SAID = r"(?:mentioned|stated|specified|described|documented|given|provided|covered|said)"
_MATERIAL = (
    r"(?:the|these|those|my|our)\s+(?:\w+\s+){0,2}"
    r"(?:documents?|documentation|handbook|manual|texts?|context|passages?|sources?|material|information)"
)
_ABSTENTIONS = re.compile(
    rf"""(?:sorry|unfortunately|i'm\s+sorry|i\s+am\s+sorry)?[,.]?\s*(?:but\s+)?(?:
        (?:i|we)\s+(?:do{_NOT}|can(?:not|\s+not|'t)|could{_NOT})\s+(?:know|say|tell|answer|find)\b
      | (?:i\ am|i'm|we\ are|we're)\s+(?:not\s+sure|unable\s+to)\b
      | (?:it|this|that|the\s+answer)\s+(?:is|was){_NOT}\s+{_SAID}\b
      | {_MATERIAL}\s+(?:do|does|did){_NOT}\s+
        (?:say|mention|state|specify|describe|document|cover|contain|tell|provide)\b
      | (?:there\s+is\s+)?(?:no|not\s+enough|insufficient)\s+(?:information|answer|mention|details?)\b
      | (?:it|this|that|the\s+question|the\s+answer)\s+can(?:not|\s+not|'t)\s+be\s+(?:answered|determined|found|told)\b
      | unanswerable\b
    )""",
    re.VERBOSE | re.IGNORECASE,
)


def exact_match(answer: str, reference: str) -> float:
    """Return 1 if both are the same without case, punctuation, articles and spaces, else 0 (SQuAD: Rajpurkar 2016)."""
    return float(_normalised(answer) == _normalised(reference))


def token_f1(answer: str, reference: str) -> float:
    """Return the F1 of the words in common, each as often as both have it (SQuAD: Rajpurkar et al. 2016)."""
    said, wanted = (Counter(_normalised(text).split()) for text in (answer, reference))
    if not said or not wanted:
        return float(said == wanted)
    return _f1((said & wanted).total(), said.total(), wanted.total())


def rouge_l(answer: str, reference: str) -> float:
    """Return ROUGE-L as F1: the longest common subsequence of words (Lin 2004)."""
    from rapidfuzz.distance import LCSseq

    said, wanted = plain_words(answer), plain_words(reference)
    return _f1(LCSseq.similarity(said, wanted), len(said), len(wanted))


def chrf(answer: str, reference: str) -> float:
    """Return chrF2, of runs of up to six characters (Popovic 2015), as sacrebleu computes it."""
    return float(_chrf().sentence_score(answer, [reference]).score) / 100


def plain_words(text: str) -> list[str]:
    """Return the runs of Latin letters and digits in lower case, as ROUGE counts words."""
    return _PLAIN_WORD.findall(text.lower())


def abstains(answer: str) -> bool:
    """Tell whether an answer begins by saying that there is none, or is empty.

    By a list of English phrases: another wording, or another language, is not seen.
    """
    text = answer.strip()
    return not text or _ABSTENTIONS.match(text) is not None


def cited(answer: str) -> tuple[int, ...]:
    """Return the numbers of the passages that an answer cites as [1] or [1, 3], each once, in their order."""
    return numbers_in(answer)


def citations(answer: str, shown: Sequence[str], right: Sequence[str]) -> dict[str, float]:
    """Return what citations are worth: the share of the cited passages that are right, and of the right ones cited.

    `shown` are the ids of the passages in the order of their numbers, from 1; a number that no passage has is a wrong
    citation. Recall counts the right ones that were shown. Nothing is returned where the right ones are not known, or
    nothing was cited and none of them was shown.
    """
    numbers, there = cited(answer), [number for number, one in enumerate(shown, 1) if one in set(right)]
    if not right or not (numbers or there):
        return {}
    hits = sum(number in there for number in numbers)
    measured = {"citation_precision": hits / len(numbers)} if numbers else {}
    return measured | ({"citation_recall": hits / len(there)} if there else {})


def measure(
    answers: Sequence[str], references: Sequence[str], encoder: Encoder | None = None
) -> list[dict[str, float]]:
    """Return each answer's measures against its reference, by name; `similarity` only with an encoder.

    A reference that abstains ("The documents do not say.") is to a question that cannot be answered: there an answer is
    worth 1 in every measure if it abstains too and 0 if it does not (SQuAD 2.0: Rajpurkar et al. 2018).
    """
    similar = None if encoder is None else similarities(answers, references, encoder)
    return [
        _measured(answer, reference, None if similar is None else similar[number])
        for number, (answer, reference) in enumerate(zip(answers, references, strict=True))
    ]


def similarities(answers: Sequence[str], references: Sequence[str], encoder: Encoder) -> list[float]:
    """Return the cosine of each answer with its reference in the encoder's space, 0 where it is negative or empty."""
    if not answers:
        return []
    texts = list(dict.fromkeys(text for text in (*answers, *references) if text.strip()))
    if not texts:
        return [0.0] * len(answers)
    vectors: NDArray[float32] = encoder.embed(texts)
    place = {text: row for row, text in enumerate(texts)}
    return [
        min(1.0, max(0.0, float(vectors[place[answer]] @ vectors[place[reference]])))
        if answer in place and reference in place
        else 0.0
        for answer, reference in zip(answers, references, strict=True)
    ]


def _measured(answer: str, reference: str, similarity: float | None) -> dict[str, float]:
    refused = float(abstains(answer))
    names = [name for name in MEASURES if name != "similarity" or similarity is not None]
    if abstains(reference):
        return dict.fromkeys(names, refused) | {"rightly_abstained": refused}
    values = {name: compute(answer, reference) for name, compute in _COMPUTED.items()}
    if similarity is not None:
        values["similarity"] = similarity
    return {name: values[name] for name in names} | {"wrongly_abstained": refused}


_COMPUTED: Final[Mapping[str, Any]] = {
    "f1": token_f1,
    "exact_match": exact_match,
    "rouge_l": rouge_l,
    "chrf": chrf,
}


def _normalised(text: str) -> str:
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _f1(common: float, said: int, wanted: int) -> float:
    return 2 * common / (said + wanted) if said + wanted else 0.0


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
