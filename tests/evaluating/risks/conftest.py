"""Tellings that think of a text what a test wants them to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunesmith.models.likelihood import Told
from tunesmith.records import Conversation


@dataclass(frozen=True, slots=True)
class FakeTelling:
    """Tells of each word of an answer the log probability that a function gives, likeliest where it is above -0.1."""

    thinks: Callable[[str, str], float]

    def told(self, prompts: Sequence[Conversation | str], answers: Sequence[str]) -> list[Told]:
        """Return what it thinks; the prompt is given as its last words."""
        return [self._told(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]

    def _told(self, prompt: Conversation | str, answer: str) -> Told:
        asked = prompt if isinstance(prompt, str) else prompt[-1].content
        each = self.thinks(asked, answer)
        count = len(answer.split())
        return Told((each,) * count, (each > -0.1,) * count)
