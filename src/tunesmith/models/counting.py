"""How many tokens a text has, without making them: each word is looked up once and then remembered.

Byte-level BPE (GPT-2's, which Llama 3, Qwen, SmolLM and most of today's models use) cuts a text into words by an
expression and encodes each by itself, so that the count of a text is the sum over its words, and a corpus has few
different ones. On prose that is about seven times as fast as encoding. Where a tokenizer works otherwise there is no
counter, and the caller encodes.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_MOST_WORDS: Final = 1_000_000
# GPT-2's expression (Radford et al. 2019, encoder.py).
_GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# The same where each digit has been cut out before: no space joins it, and white space before it ends there.
_GPT2_DIGITS: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"
# Expressions of different libraries do not agree on whether these are white space.
_ODD: Final = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f\x85]")


class TokenCounter:
    """Counts the tokens of texts, exactly; `counter_of` returns one for the tokenizers that allow it."""

    def __init__(self, tokenizer: Tokenizer, pattern: str, *, composed: bool, added: Sequence[str]) -> None:
        import regex

        self._tokenizer, self._composed = tokenizer, composed
        self._any = regex.compile(pattern).findall
        ascii_only = pattern.replace(r"[^\s\p{L}\p{N}]", r"[^\sA-Za-z0-9]").replace(
            r"[^\s\p{N}]", r"[^\s0-9]"
        )
        ascii_only = ascii_only.replace(r"\p{L}", "[A-Za-z]").replace(r"\p{N}", "[0-9]")
        # Expressions with classes beyond those stay with the slower library.
        self._ascii = self._any if r"\p{" in ascii_only or "[^\\r\\n" in pattern else _compiled(ascii_only)
        self._special = re.compile("|".join(map(re.escape, added))) if added else None
        self._words = _Words(self._encoded)

    def count(self, text: str) -> int:
        """Return how many tokens a text has, special ones not added."""
        plain = text.isascii()
        if _ODD.search(text) is not None or (self._special is not None and self._special.search(text)):
            return self._encoded(text)
        if not plain and self._composed:
            text = unicodedata.normalize("NFC", text)
        if len(self._words) > _MOST_WORDS:
            self._words.clear()
        return sum(map(self._words.__getitem__, (self._ascii if plain else self._any)(text)))

    def holds_special(self, text: str) -> bool:
        """Tell whether a text holds the words of an added token, which a tokenizer takes for the token."""
        return self._special is not None and self._special.search(text) is not None

    def _encoded(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


class _Words(dict[str, int]):
    """The tokens of each word, found when it is first asked for."""

    def __init__(self, count: Callable[[str], int]) -> None:
        super().__init__()
        self._count = count

    def __missing__(self, word: str) -> int:
        found = self[word] = self._count(word)
        return found


def counter_of(file: Path) -> TokenCounter | None:
    """Return the counter of a tokenizer.json; None if its tokens are not those of its words."""
    if not file.is_file():
        return None
    from tokenizers import Tokenizer

    config = json.loads(file.read_text(encoding="utf-8"))
    pattern = _pattern(config)
    composed = _is_composed(config.get("normalizer"))
    if pattern is None or composed is None or config.get("truncation") or config.get("padding"):
        return None
    added = [str(token["content"]) for token in config.get("added_tokens", ())]
    return TokenCounter(Tokenizer.from_file(str(file)), pattern, composed=composed, added=added)


def counts_of(folder: Path) -> Callable[[Sequence[str]], list[int]]:
    """Return what tells how many tokens each of some texts has for the model in a folder, an encoder's too."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if file.is_file():
        fast = Tokenizer.from_file(str(file))
        fast.no_truncation()
        fast.no_padding()
        return lambda texts: [
            len(found.ids) for found in fast.encode_batch_fast(list(texts), add_special_tokens=False)
        ]
    from transformers import AutoTokenizer

    slow = AutoTokenizer.from_pretrained(folder)
    return lambda texts: [len(slow(text, add_special_tokens=False)["input_ids"]) for text in texts]


def _compiled(pattern: str) -> Callable[[str], list[str]]:
    return re.compile(pattern, re.ASCII).findall


def _is_composed(normalizer: Any) -> bool | None:
    """Tell whether texts are normalised to NFC; None if something else is done to them."""
    if normalizer is None:
        return False
    return True if normalizer.get("type") == "NFC" else None


def _pattern(config: dict[str, Any]) -> str | None:
    """Return the expression that cuts texts into words; None if words are not cut so, or not encoded alone."""
    if config["model"].get("type") != "BPE" or config["model"].get("dropout"):
        return None
    steps = config.get("pre_tokenizer") or {}
    steps = steps["pretokenizers"] if steps.get("type") == "Sequence" else [steps]
    match steps:
        case [{"type": "ByteLevel"} as last] if _cuts(last):
            return _GPT2
        case [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel"} as last] if _cuts(last):
            return _GPT2_DIGITS
        case [
            {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False},
        ]:
            return pattern
    return None


def _cuts(step: dict[str, Any]) -> bool:
    return bool(step.get("use_regex", True)) and not step.get("add_prefix_space", True)
