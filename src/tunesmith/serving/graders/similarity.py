"""How alike two texts are, from 0 to 1, by the field's measures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from tunesmith.evaluating.texts import plain_words, rouge_l

_WORD = re.compile(r"\w+|[^\w\s]")


def fuzzy_match(text: str, reference: str) -> float:
    """Return the normalised indel similarity (rapidfuzz's ratio)."""
    from rapidfuzz import fuzz

    return float(fuzz.ratio(text, reference)) / 100


def bleu(text: str, reference: str) -> float:
    """Return sentence BLEU up to 4-grams (Papineni et al. 2002), smoothed by a small count (Chen and Cherry 2014)."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    said, wanted = _words(text), _words(reference)
    if not said or not wanted:
        return float(said == wanted)
    # Of short texts only the n-grams that there can be.
    longest = min(4, len(said), len(wanted))
    weights = (1 / longest,) * longest
    return float(sentence_bleu([wanted], said, weights, SmoothingFunction().method1))


def gleu(text: str, reference: str) -> float:
    """Return sentence GLEU (Wu et al. 2016)."""
    from nltk.translate.gleu_score import sentence_gleu

    said, wanted = _words(text), _words(reference)
    return float(sentence_gleu([wanted], said)) if said and wanted else float(said == wanted)


def meteor(text: str, reference: str) -> float:
    """Return METEOR (Banerjee and Lavie 2005) by equal words and equal stems; it knows no synonyms here."""
    from nltk.translate.meteor_score import single_meteor_score

    said, wanted = _words(text), _words(reference)
    if not said or not wanted:
        return float(said == wanted)
    return float(single_meteor_score(wanted, said, wordnet=_NoSynonyms()))


def rouge_n(text: str, reference: str, n: int) -> float:
    """Return ROUGE-N as F1 (Lin 2004); words are runs of letters and digits, in lower case."""
    said, wanted = (
        Counter(zip(*(words[start:] for start in range(n)), strict=False))
        for words in (plain_words(text), plain_words(reference))
    )
    return _f1(sum((said & wanted).values()), said.total(), wanted.total())


METRICS: Final[dict[str, Callable[[str, str], float]]] = {
    "fuzzy_match": fuzzy_match,
    "bleu": bleu,
    "gleu": gleu,
    "meteor": meteor,
    "rouge_l": rouge_l,
    **{f"rouge_{n}": lambda text, reference, n=n: rouge_n(text, reference, n) for n in range(1, 6)},  # type: ignore[misc]
}


def _f1(common: float, said: int, wanted: int) -> float:
    return 2 * common / (said + wanted) if said + wanted else 0.0


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


class _NoSynonyms:
    """What METEOR asks for synonyms: WordNet would have to be downloaded."""

    def synsets(self, word: str) -> list[Any]:
        """Return none."""
        return []
