"""Why a file is not read."""

from __future__ import annotations


class Refusal(Exception):
    """The rule that a file breaks, and what exactly; who asked for the file makes a Rejection of it."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(detail)
        self.rule = rule
        self.detail = detail
