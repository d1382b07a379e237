"""The tokens of a conversation as training would have them, counted without rendering it.

A chat template writes the same words around the turns of every conversation whose turns have the same roles. They are
found once for each such shape, by rendering turns that hold nothing but a mark; a row is then counted piece by piece.
Whatever a template might do something else with is left to the renderer: words that it might strip, special tokens in
what is said, and a template that looks into its messages. That both ways agree is looked at row by row for the first
ones, and now and then after that (`checking`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tunesmith.errors import ModelError
from tunesmith.models.counting import TokenCounter
from tunesmith.models.local import end_of_turn_ids
from tunesmith.models.template import chat_text
from tunesmith.records import Message, Role

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What a template looks for in a message, other than to write it down: then its words count, and not its shape alone.
_LOOKS_INSIDE: Final = re.compile(
    r"content['\"\]]*\s*(?:\[|\.)|['\"]\s+in\s+\w*(?:message|content)|content['\"\]]*\s*\|\s*(?!trim\b)\w+|think"
)
_MARK: Final = "⟦{}⟧"


@dataclass(frozen=True, slots=True)
class Counted:
    """How many tokens a row has, and how many of them are learned."""

    tokens: int
    labelled: int


@dataclass(frozen=True, slots=True)
class Shape:
    """What a template writes around turns of these roles.

    `pieces` are what a tokenizer sees as one text, between special tokens and from where the assistant begins: texts,
    and the numbers of turns. `fixed` are the special tokens, `answers` the turns of the assistant. `strips` if white
    space around what is said may be taken away.
    """

    roles: tuple[Role, ...]
    pieces: tuple[tuple[int | str, ...], ...]
    fixed: int
    answers: int
    strips: bool

    def counting(self, counter: TokenCounter) -> Callable[[Sequence[str]], Counted]:
        """Return what counts the tokens of a conversation of this shape, all that is the same in each counted once."""
        count = counter.count
        said = [piece[0] for piece in self.pieces if len(piece) == 1 and isinstance(piece[0], int)]
        mixed = [piece for piece in self.pieces if len(piece) > 1]
        same = self.fixed + sum(
            count(piece[0]) for piece in self.pieces if isinstance(piece[0], str) and len(piece) == 1
        )
        learned = {number for number, role in enumerate(self.roles) if role == "assistant"}
        apart = [number for number in learned if number not in said]

        def counted(texts: Sequence[str]) -> Counted:
            tokens, labelled = same, self.answers
            for number in said:
                found = count(texts[number])
                tokens += found
                if number in learned:
                    labelled += found
            for piece in mixed:
                tokens += count("".join([part if isinstance(part, str) else texts[part] for part in piece]))
            labelled += sum(count(texts[number]) for number in apart)
            return Counted(tokens, labelled)

        return counted

    def fits(self, texts: Sequence[str], counter: TokenCounter) -> bool:
        """Tell whether the words of a conversation are such that the template writes them down as they are."""
        if not all(texts) or any(map(counter.holds_special, texts)):
            return False
        return not self.strips or not any(text[0].isspace() or text[-1].isspace() for text in texts)


def shape_of(tokenizer: PreTrainedTokenizerBase, roles: Sequence[Role]) -> Shape | None:
    """Return the shape of conversations of these roles; None if the template does not write them piece by piece.

    Not covered: conversations that are no question and answer in the end, whose faults the renderer knows how to tell.
    """
    if len(roles) < 2 or roles[-1] != "assistant" or roles[0] == "assistant":
        return None
    if _LOOKS_INSIDE.search(str(tokenizer.get_chat_template())):
        return None
    marks = [_MARK.format(number) for number in range(len(roles))]
    messages = tuple(Message(role, mark) for role, mark in zip(roles, marks, strict=True))
    try:
        text = chat_text(tokenizer, messages)
        starts = [
            chat_text(tokenizer, messages[:number], prompt=True)
            for number, role in enumerate(roles)
            if role == "assistant"
        ]
    except ModelError:
        return None
    if any(text.count(mark) != 1 for mark in marks) or not all(map(text.startswith, starts)):
        return None
    padded = tuple(Message(role, f"\n {mark} \n") for role, mark in zip(roles, marks, strict=True))
    strips = chat_text(tokenizer, padded) != re.sub(f"({'|'.join(marks)})", "\n \\1 \n", text)
    return _cut(tokenizer, text, messages, {len(start) for start in starts}, strips=strips)


def _cut(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    messages: Sequence[Message],
    starts: set[int],
    *,
    strips: bool,
) -> Shape | None:
    roles, marks = [message.role for message in messages], [message.content for message in messages]
    ends = {str(tokenizer.decode([token])) for token in end_of_turn_ids(tokenizer)}
    special = sorted(
        (token.content for token in tokenizer.added_tokens_decoder.values() if token.content),
        key=len,
        reverse=True,
    )
    pattern = re.compile("|".join(map(re.escape, (*special, *marks))))
    pieces: list[list[int | str]] = [[]]
    fixed, place = 0, 0
    answered: list[bool] = []
    kept: tuple[int, int] | None = None
    for match in pattern.finditer(text):
        _add(pieces, text, place, match.start(), starts)
        place = match.end()
        if match[0] in marks:
            if match.start() in starts:
                pieces.append([])
            pieces[-1].append(marks.index(match[0]))
            if roles[marks.index(match[0])] == "assistant":
                answered.append(False)
            continue
        fixed += 1
        pieces.append([])
        if match[0] in ends and answered and not answered[-1]:
            # The end of turn must follow the words at once: else what stands between is learned too.
            answered[-1] = text[: match.start()].endswith(tuple(marks))
            kept = (len(pieces), fixed)
    if kept is None or not all(answered) or len(answered) != list(roles).count("assistant"):
        return None
    whole = [tuple(piece) for piece in pieces[: kept[0]] if piece]
    return Shape(tuple(roles), tuple(whole), kept[1], len(answered), strips)


def _add(pieces: list[list[int | str]], text: str, start: int, end: int, borders: set[int]) -> None:
    """Add what stands between two places, cut where the assistant begins."""
    for border in sorted(border for border in borders if start < border < end):
        pieces[-1].append(text[start:border])
        pieces.append([])
        start = border
    if start < end:
        if start in borders:
            pieces.append([])
        pieces[-1].append(text[start:end])
