"""OpenAI's chat JSONL for fine-tuning: the lines, the rules they must keep, their tokens and what these cost."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from tunesmith.errors import DatasetError, MissingExtra
from tunesmith.records import Conversation

if TYPE_CHECKING:
    from collections.abc import Callable

OPENAI: Final = "https://api.openai.com/v1"
FEWEST: Final = 10
LARGEST: Final = 512 * 10**6  # bytes of a file

# US dollars for a million trained tokens, as OpenAI's list had them in 2025; noted from memory, not read off again.
PRICES: Final = {
    "gpt-4.1": 25.0,
    "gpt-4.1-mini": 5.0,
    "gpt-4.1-nano": 1.5,
    "gpt-4o": 25.0,
    "gpt-4o-mini": 3.0,
    "gpt-3.5-turbo": 8.0,
}
# Tokens of an example that training reads, as OpenAI's pages had it then.
TRAINED: Final = {
    "gpt-4.1": 65_536,
    "gpt-4.1-mini": 65_536,
    "gpt-4.1-nano": 65_536,
    "gpt-4o": 65_536,
    "gpt-4o-mini": 65_536,
    "gpt-3.5-turbo": 16_385,
}
PRICES_OF: Final = "2025"

_PER_MESSAGE, _PER_EXAMPLE, _BILLED_PER_EXAMPLE = 3, 3, 1
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Bill:
    """What training a service's model on a file comes to: tokens over all epochs by the guide and by the bill, dollars.

    `dollars` is None where no price is known.
    """

    model: str
    epochs: int
    count: TokenCount
    tokens: int
    billed: int
    dollars: float | None


@dataclass(frozen=True, slots=True)
class TokenCount:
    """What a training file holds: examples, and tokens in one pass over them as `encoding` cuts them.

    `tokens` is the count by which OpenAI's guide estimates, `billed` what its bills add up to: 2 less an example.
    `over` examples are longer than the model's training reads, and are counted as cut there.
    """

    encoding: str
    examples: int
    tokens: int
    billed: int
    longest: int
    over: int = 0


def chat_jsonl(conversations: Sequence[Conversation]) -> bytes:
    """Return conversations as the lines of a training file."""
    lines = (
        {
            "messages": [
                {"role": message.role, "content": message.content} | ({} if message.weight else {"weight": 0})
                for message in conversation
            ]
        }
        for conversation in conversations
    )
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def check_chat(conversations: Sequence[Conversation], what: str, *, fewest: int = FEWEST) -> None:
    """Raise DatasetError, with all lines that a service would refuse, unless OpenAI's rules are kept.

    `what` is how the file is called there. Lines count from 1, as in the file that `chat_jsonl` writes.
    """
    problems = [
        f"{what}, line {number}: {problem}"
        for number, conversation in enumerate(conversations, 1)
        for problem in _problems(conversation)
    ]
    if len(conversations) < fewest:
        problems.insert(0, f"{what} holds {len(conversations)} examples; a service wants at least {fewest}")
    size = len(chat_jsonl(conversations))
    if size > LARGEST:
        problems.insert(0, f"{what} holds {size:,} bytes; a service takes at most {LARGEST:,}")
    if problems:
        more = len(problems) - _SHOWN
        shown = [*problems[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        raise DatasetError(
            "; ".join(shown),
            hint="Mend the answers, or let more or fewer examples through: [curate], and examples in [train].",
        )


def _problems(conversation: Conversation) -> Iterator[str]:
    if not conversation:
        yield "there is no message"
        return
    if conversation[-1].role != "assistant":
        yield f"the last turn is the {conversation[-1].role}'s, not the assistant's"
    for number, message in enumerate(conversation, 1):
        if message.role not in ("system", "user", "assistant"):
            yield f"message {number} has the role {message.role!r}, not system, user or assistant"
        if not message.content.strip():
            yield f"message {number}, the {message.role}'s, is empty"


def count_tokens(conversations: Sequence[Conversation], model: str) -> TokenCount:
    """Return the tokens of a training file, as OpenAI counts them for a model; of a model of others' an estimate.

    Raises MissingExtra where the tokenizer is not installed.
    """
    rows = (
        {"messages": [{"role": message.role, "content": message.content} for message in conversation]}
        for conversation in conversations
    )
    return count_rows(rows, model)


def count_rows(rows: Iterable[Mapping[str, Any]], model: str) -> TokenCount:
    """Return the tokens of a file's rows, each with its `messages`, as OpenAI's guide counts them for a model.

    A name costs one token more than its own. What calls and describes functions is counted by its JSON, which is an
    estimate: how OpenAI writes it is not known. Rows are cut where the model's training reads no further.
    """
    encoding, limit = encoding_of(model), TRAINED.get(_family(model))
    tokens_in = _counter(encoding)
    examples = total = longest = over = 0
    for row in rows:
        length = _PER_EXAMPLE + sum(_of_message(message, tokens_in) for message in row["messages"])
        length += sum(tokens_in(json.dumps(row[key])) for key in ("tools", "functions") if row.get(key))
        examples += 1
        longest = max(longest, length)
        over += limit is not None and length > limit
        total += length if limit is None else min(length, limit)
    billed = total - (_PER_EXAMPLE - _BILLED_PER_EXAMPLE) * examples
    return TokenCount(encoding, examples, total, billed, longest, over)


def _of_message(message: Mapping[str, Any], tokens_in: Callable[[str], int]) -> int:
    tokens = _PER_MESSAGE + (1 if message.get("name") else 0)
    for key, value in message.items():
        if value is None or key == "weight":
            continue
        tokens += tokens_in(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return tokens


def bill_of(path: Path, model: str, epochs: int) -> Bill:
    """Return what it would cost to have OpenAI train a model on a file of sound chats.

    The price is of the tokens by the guide, as one estimates; the bill's are fewer.
    """
    with path.open("rb") as file:
        rows = (json.loads(line.removeprefix(b"\xef\xbb\xbf")) for line in file if line.strip())
        count = count_rows(rows, model)
    tokens, billed = count.tokens * epochs, count.billed * epochs
    return Bill(model, epochs, count, tokens, billed, price_of(tokens, model, OPENAI))


def encoding_of(model: str) -> str:
    """Return the name of the encoding that a model's tokens are counted in; of unknown models, the older one."""
    newer = re.match(r"gpt-4o|gpt-4\.1|gpt-5|o\d", _family(model))
    return "o200k_base" if newer else "cl100k_base"


def price_of(tokens: int, model: str, base_url: str) -> float | None:
    """Return US dollars for so many trained tokens; None where the list knows no price: other models and services."""
    per_million = PRICES.get(_family(model))
    if per_million is None or urlsplit(base_url).hostname != urlsplit(OPENAI).hostname:
        return None
    return tokens * per_million / 1e6


def priced(price: float | None) -> str:
    """Return a price in words."""
    return "price unknown" if price is None else f"${price:,.2f} by the price list of {PRICES_OF}"


def _family(model: str) -> str:
    """Return a model's name without its date, and that of the model that a tuned one was made from."""
    base = model.removeprefix("ft:").partition(":")[0]
    return re.sub(r"-\d{4}(?:-\d{2}-\d{2})?$", "", base)


@cache
def _counter(encoding: str) -> Callable[[str], int]:
    try:
        import bpe_openai
    except ModuleNotFoundError as error:
        raise MissingExtra("bpe-openai", "hosted", "Counting a service's tokens") from error
    tokenizer: Any = bpe_openai.get_encoding(encoding)
    # Special tokens in somebody's words are words there, as they are for the service.
    return lambda text: len(tokenizer.encode_ordinary(text))
