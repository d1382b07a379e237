"""What an answer may look like, held token by token by llguidance: JSON of a schema, or a Lark grammar."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ModelError
from tunesmith.models.constrained import readable

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

_KEPT = 64
# One way to write white space: a small model otherwise rambles on blanks.
JSON = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class GrammarError(ModelError):
    """A schema or grammar that cannot be held."""


class Grammars:
    """The grammars of one tokenizer; the last few are kept compiled. Threads may share it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = readable(tokenizer)
        self._compiled: OrderedDict[str, Any] = OrderedDict()

    def of_schema(self, schema: dict[str, Any]) -> HeldGrammar:
        """Return the grammar of one answer that is JSON of a schema; raises GrammarError for what cannot be held."""
        return self._of(lambda lib: lib.grammar_from_json_schema(json.dumps(schema), defaults=JSON), schema)

    def of_lark(self, text: str) -> HeldGrammar:
        """Return the grammar of one answer in llguidance's Lark."""
        return self._of(lambda lib: lib.grammar_from_lark(text), text)

    def _of(self, grammar: Any, key: Any) -> HeldGrammar:
        from llguidance import LLMatcher

        name = json.dumps(key)
        matcher = self._compiled.get(name)
        if matcher is None:
            try:
                matcher = LLMatcher(self._tokenizer, grammar(LLMatcher))
            except ValueError as error:
                raise GrammarError(f"the grammar cannot be read: {error}") from error
            if matcher.is_error():
                raise GrammarError(f"the schema cannot be held: {_short(matcher.get_error())}")
            self._compiled[name] = matcher
            while len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
        return HeldGrammar(matcher.deep_copy())


class HeldGrammar:
    """The state of one answer."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def allow(self, logits_V: torch.Tensor) -> None:
        """Set the logits of forbidden tokens to minus infinity, in place."""
        import numpy as np
        import torch

        packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        bits = np.unpackbits(packed, bitorder="little")[: logits_V.shape[0]]
        # A model's output may be wider than its tokenizer's vocabulary.
        forbidden_V = torch.ones(logits_V.shape[0], dtype=torch.bool)
        forbidden_V[: len(bits)] = torch.from_numpy(bits == 0)
        logits_V.masked_fill_(forbidden_V.to(logits_V.device), float("-inf"))

    def advance(self, token: int) -> None:
        """Take note of the token that was picked."""
        self._matcher.consume_token(token)
        self._check()

    def forced(self) -> list[int]:
        """Return the tokens that must come next, whatever the model thinks."""
        if self._matcher.is_stopped():
            return []
        return list(self._matcher.compute_ff_tokens())

    def finished(self) -> bool:
        """Tell whether nothing can follow."""
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise GrammarError(f"the grammar cannot go on: {_short(self._matcher.get_error())}")


def _short(text: str) -> str:
    return text.strip().splitlines()[0][:300] if text.strip() else "no reason is given"
