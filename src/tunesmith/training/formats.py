"""Rows of chats in the forms that trainers read, from each to each by way of OpenAI's.

OpenAI's chats and preference pairs, ShareGPT (with LLaMA-Factory's calls), Alpaca, prompt and completion, preferences
as TRL has them, question and answer. A row that a form cannot hold is told, not shortened.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TextIO

from tunesmith.errors import DatasetError, UsageError

Format = Literal["openai", "sharegpt", "alpaca", "prompt-completion", "preferences", "question-answer"]
Row = Mapping[str, Any]

#: By which keys a form is known, and which others it has; what else stands in a row is left out, and told.
KEYS: Final[Mapping[Format, tuple[frozenset[str], frozenset[str]]]] = {
    "openai": (frozenset({"messages"}), frozenset({"tools", "functions", "parallel_tool_calls"})),
    "sharegpt": (frozenset({"conversations"}), frozenset({"system", "tools"})),
    "alpaca": (frozenset({"instruction", "output"}), frozenset({"input", "system", "history"})),
    "preferences": (frozenset({"chosen", "rejected"}), frozenset({"prompt"})),
    "prompt-completion": (frozenset({"prompt", "completion"}), frozenset()),
    "question-answer": (frozenset({"question", "answer"}), frozenset()),
}
_SHOWN: Final = 5
_PAIR: Final = frozenset({"input", "preferred_output", "non_preferred_output"})
_ROLES: Final = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "observation": "tool",
    "tool": "tool",
    "function_call": "call",
}
_NAMES: Final = {
    "user": "human",
    "assistant": "gpt",
    "system": "system",
    "developer": "system",
    "tool": "observation",
}


class Misfit(Exception):
    """What of a row does not fit a form."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What became of a file: its form and the new one, rows, and how many rows had each key that was left out."""

    source: Format
    target: Format
    rows: int
    left_out: Mapping[str, int]


def form_of(row: object) -> Format | None:
    """Return the form that a row has by its keys, None for none."""
    if not isinstance(row, dict):
        return None
    if row.keys() >= _PAIR:
        return "openai"
    return next((form for form, (needed, _) in KEYS.items() if row.keys() >= needed), None)


def convert(path: Path, out: Path, target: Format) -> Converted:
    """Write a file's rows in another form, as JSON lines; all or none. Rows are read one at a time.

    Read are JSON lines, CSV with a head, and a JSON list, which is read whole. Raises UsageError for what cannot be
    read and for an `out` that is there, and DatasetError with the lines of the rows that the target cannot hold.
    """
    if out.exists():
        raise UsageError(f"{out} is there already.", hint="Name another file with --out.")
    part = out.with_name(out.name + ".part")
    try:
        with part.open("w", encoding="utf-8") as file:
            done = _convert(path, file, target)
        part.rename(out)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)
    return done


def _convert(path: Path, file: TextIO, target: Format) -> Converted:
    source: Format | None = None
    faults: list[str] = []
    left_out = Counter[str]()
    count = 0
    for number, row in _rows(path):
        try:
            found = form_of(row)
            if found is None:
                keys = ", ".join(row) if isinstance(row, dict) else "none"
                raise Misfit(f"its keys ({keys}) are those of no form")
            if source not in (None, found):
                raise Misfit(f"it is a row of {found}, where the rows before it are of {source}")
            source = found
            needed, others = KEYS[found]
            left_out.update(row.keys() - needed - others - (_PAIR if found == "openai" else frozenset()))
            file.write(json.dumps(from_openai(to_openai(row, found), target), ensure_ascii=False) + "\n")
            count += 1
        except Misfit as misfit:
            faults.append(f"line {number}: {misfit}")
    if faults:
        more = f"\n  and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        shown = "".join(f"\n  {each}" for each in faults[:_SHOWN])
        raise DatasetError(
            f"{path} cannot be converted to {target}:{shown}{more}",
            hint="Mend or take out these rows; nothing was written.",
        )
    if source is None:
        raise DatasetError(f"{path} holds no row.", hint="Give JSON lines, a JSON list, or CSV with a head.")
    return Converted(source, target, count, dict(left_out))


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield a file's rows with the lines where they begin."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() in (".csv", ".tsv"):
                yield from _tabled(file, "\t" if path.suffix.lower() == ".tsv" else ",")
                return
            first = next((letter for line in file for letter in line if not letter.isspace()), "")
            file.seek(0)
            if first == "[":
                yield from _listed(path, file.read())
                return
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _parsed_line(path, number, line)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8: byte {error.start}.", hint="Save it as UTF-8.") from error


def _parsed_line(path: Path, number: int, line: str) -> Any:
    try:
        # A byte order mark is read again where the file is gone back in.
        return json.loads(line.removeprefix("\ufeff"))
    except ValueError as error:
        raise UsageError(f"{path}, line {number}, is not JSON: {error}.") from error


def _tabled(file: TextIO, delimiter: str) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(file, delimiter=delimiter)
    line = 2
    for row in reader:
        yield line, {key: value for key, value in row.items() if key and value is not None}
        line = reader.line_num + 1


def _listed(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    decoder, place = json.JSONDecoder(), text.index("[") + 1
    line, counted = 1, 0
    while True:
        while place < len(text) and (text[place].isspace() or text[place] == ","):
            place += 1
        if place >= len(text) or text[place] == "]":
            return
        line += text.count("\n", counted, place)
        counted = place
        try:
            row, place = decoder.raw_decode(text, place)
        except ValueError as error:
            raise UsageError(f"{path}, line {line}, is not JSON: {error}.") from error
        yield line, row


# --- to OpenAI's form


def to_openai(row: Row, form: Format) -> dict[str, Any]:
    """Return a row as OpenAI's files have it; raises Misfit for what is not as the form says."""
    return _READ[form](row)


def _same(row: Row) -> dict[str, Any]:
    known = KEYS["openai"][0] | KEYS["openai"][1] | _PAIR
    return {key: value for key, value in row.items() if key in known}


def _from_sharegpt(row: Row) -> dict[str, Any]:
    turns = row["conversations"]
    if not isinstance(turns, list) or not turns:
        raise Misfit("conversations is no list of turns")
    messages: list[dict[str, Any]] = []
    if row.get("system"):
        messages.append({"role": "system", "content": _words(row["system"], "system")})
    calls = 0
    open_calls: list[str] = []
    for number, turn in enumerate(turns):
        place = f"conversations[{number}]"
        if not isinstance(turn, dict) or turn.get("from") not in _ROLES:
            raise Misfit(f"{place}.from is none of {', '.join(_ROLES)}")
        odd = turn.keys() - {"from", "value", "weight", "loss"}
        if odd:
            raise Misfit(f"{place} has {', '.join(sorted(odd))}, which is not read")
        role, words = _ROLES[turn["from"]], _words(turn.get("value"), f"{place}.value")
        message: dict[str, Any] = {"role": role, "content": words}
        if role == "call":
            made = _calls(words, place, calls)
            calls += len(made)
            open_calls = [call["id"] for call in made]
            message = {"role": "assistant", "content": None, "tool_calls": made}
        elif role == "tool":
            if not open_calls:
                raise Misfit(f"{place} tells what a function gave, and none was called before it")
            message["tool_call_id"] = open_calls.pop(0)
        weight = turn.get("weight", turn.get("loss"))
        if weight is not None and message["role"] == "assistant":
            message["weight"] = int(bool(weight))
        messages.append(message)
    made_row: dict[str, Any] = {"messages": messages}
    if row.get("tools"):
        made_row["tools"] = _tools(row["tools"])
    return made_row


def _calls(words: str, place: str, first: int) -> list[dict[str, Any]]:
    try:
        found = json.loads(words)
    except ValueError as error:
        raise Misfit(f"{place}.value is no JSON of a call: {error}") from error
    calls = found if isinstance(found, list) else [found]
    if not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        raise Misfit(f"{place}.value is no call: name and arguments are needed")
    return [
        {
            "id": f"call_{first + number}",
            "type": "function",
            "function": {"name": call["name"], "arguments": _as_json(call.get("arguments", {}))},
        }
        for number, call in enumerate(calls)
    ]


def _tools(found: Any) -> list[Any]:
    try:
        tools = json.loads(found) if isinstance(found, str) else found
    except ValueError as error:
        raise Misfit(f"tools is no JSON: {error}") from error
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise Misfit("tools is no list of functions")
    return [
        tool if tool.get("type") == "function" else {"type": "function", "function": tool} for tool in tools
    ]


def _as_json(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _from_alpaca(row: Row) -> dict[str, Any]:
    messages = [_said("system", row["system"], "system")] if row.get("system") else []
    history = row.get("history") or []
    if not isinstance(history, list) or not all(
        isinstance(each, list) and len(each) == 2 for each in history
    ):
        raise Misfit("history is no list of questions with their answers")
    for number, (asked, answered) in enumerate(history):
        messages += [
            _said("user", asked, f"history[{number}][0]"),
            _said("assistant", answered, f"history[{number}][1]"),
        ]
    asked = _words(row["instruction"], "instruction")
    if row.get("input"):
        asked += "\n\n" + _words(row["input"], "input")
    return {
        "messages": [
            *messages,
            _said("user", asked, "instruction"),
            _said("assistant", row["output"], "output"),
        ]
    }


def _from_prompt(row: Row) -> dict[str, Any]:
    return {
        "messages": [
            *_turns(row["prompt"], "user", "prompt"),
            *_turns(row["completion"], "assistant", "completion"),
        ]
    }


def _from_preferences(row: Row) -> dict[str, Any]:
    chosen = _turns(row["chosen"], "assistant", "chosen")
    rejected = _turns(row["rejected"], "assistant", "rejected")
    if row.get("prompt") is not None:
        prompt = _turns(row["prompt"], "user", "prompt")
    else:
        # Both hold the whole chat: what they share is the prompt.
        prompt = chosen[:-1]
        if prompt != rejected[:-1]:
            raise Misfit("chosen and rejected differ before their last turns, and there is no prompt")
        chosen, rejected = chosen[-1:], rejected[-1:]
    return {"input": {"messages": prompt}, "preferred_output": chosen, "non_preferred_output": rejected}


def _from_question(row: Row) -> dict[str, Any]:
    return {
        "messages": [_said("user", row["question"], "question"), _said("assistant", row["answer"], "answer")]
    }


def _turns(found: Any, role: str, place: str) -> list[dict[str, Any]]:
    """Return a text as one turn, or messages as they are."""
    if isinstance(found, str):
        return [_said(role, found, place)]
    if not isinstance(found, list) or not found or not all(isinstance(each, dict) for each in found):
        raise Misfit(f"{place} is neither a text nor messages")
    return found


def _said(role: str, words: Any, place: str) -> dict[str, Any]:
    return {"role": role, "content": _words(words, place)}


def _words(found: Any, place: str) -> str:
    if not isinstance(found, str):
        raise Misfit(f"{place} is no text")
    return found


# --- from OpenAI's form


def from_openai(row: Row, form: Format) -> dict[str, Any]:
    """Return a row of OpenAI's form in another; raises Misfit for what that one cannot hold."""
    return _WRITE[form](row)


def _to_sharegpt(row: Row) -> dict[str, Any]:
    turns, made = [], dict[str, Any]()
    for number, message in enumerate(_chat(row)):
        role, place = message.get("role"), f"messages[{number}]"
        _only(message, place, {"role", "content", "tool_calls", "tool_call_id", "weight"})
        calls = message.get("tool_calls")
        if calls:
            if message.get("content"):
                raise Misfit(f"{place} says something and calls a function, which ShareGPT has no turn for")
            told = [
                {"name": call["function"]["name"], "arguments": _parsed(call["function"]["arguments"])}
                for call in calls
            ]
            turn = {
                "from": "function_call",
                "value": json.dumps(told[0] if len(told) == 1 else told, ensure_ascii=False),
            }
        else:
            names = {
                "user": "human",
                "assistant": "gpt",
                "system": "system",
                "developer": "system",
                "tool": "observation",
            }
            if role not in names:
                raise Misfit(f"{place}.role is {role!r}, for which ShareGPT has no name")
            turn = {"from": names[role], "value": _text(message, place)}
        if "weight" in message:
            turn["weight"] = message["weight"]
        turns.append(turn)
    if turns and turns[0]["from"] == "system":
        made["system"] = turns.pop(0)["value"]
    made = {"conversations": turns} | made
    tools = row.get("tools") or [
        {"type": "function", "function": each} for each in row.get("functions") or ()
    ]
    if tools:
        made["tools"] = json.dumps([tool["function"] for tool in tools], ensure_ascii=False)
    return made


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _to_alpaca(row: Row) -> dict[str, Any]:
    system, pairs = _in_pairs(row, "Alpaca")
    *history, (asked, answered) = pairs
    made: dict[str, Any] = {"instruction": asked, "input": "", "output": answered}
    if system:
        made["system"] = system
    if history:
        made["history"] = [list(each) for each in history]
    return made


def _to_prompt(row: Row) -> dict[str, Any]:
    *prompt, answer = _chat(row)
    if answer.get("role") != "assistant" or not prompt:
        raise Misfit("it does not end with an answer to something")
    if row.get("tools") or row.get("functions"):
        raise Misfit("it has tools, which prompt and completion have no place for")
    plain = len(prompt) == 1 and prompt[0].keys() == {"role", "content"} and prompt[0]["role"] == "user"
    if plain and answer.keys() == {"role", "content"}:
        return {"prompt": _text(prompt[0], "messages[0]"), "completion": _text(answer, "messages[1]")}
    return {"prompt": prompt, "completion": [answer]}


def _to_preferences(row: Row) -> dict[str, Any]:
    if not row.keys() >= _PAIR:
        raise Misfit("it is a chat with one answer, where preferences have two")
    if row["input"].get("tools"):
        raise Misfit("it has tools, which TRL's preferences have no place for")
    return {
        "prompt": row["input"]["messages"],
        "chosen": row["preferred_output"],
        "rejected": row["non_preferred_output"],
    }


def _to_question(row: Row) -> dict[str, Any]:
    system, pairs = _in_pairs(row, "question and answer")
    if system or len(pairs) > 1:
        raise Misfit("it has a system's words, or more than one question")
    return {"question": pairs[0][0], "answer": pairs[0][1]}


def _chat(row: Row) -> Sequence[Mapping[str, Any]]:
    messages = row.get("messages")
    if row.keys() >= _PAIR:
        raise Misfit("it is a preference pair, which only preferences and openai hold")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise Misfit("messages is no list of messages")
    return messages


def _in_pairs(row: Row, form: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the system's words, and questions with their answers."""
    messages = _chat(row)
    if row.get("tools") or row.get("functions"):
        raise Misfit(f"it has tools, which {form} has no place for")
    for number, message in enumerate(messages):
        _only(message, f"messages[{number}]", {"role", "content"})
    texts = [(each["role"], _text(each, f"messages[{number}]")) for number, each in enumerate(messages)]
    system = texts.pop(0)[1] if texts[0][0] in ("system", "developer") else ""
    roles = [role for role, _ in texts]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise Misfit(
            f"its turns are {', '.join(roles) or 'none'}, where {form} wants user and assistant in turn"
        )
    words = [text for _, text in texts]
    return system, list(zip(words[::2], words[1::2], strict=True))


def _text(message: Mapping[str, Any], place: str) -> str:
    content = message.get("content")
    if isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" for part in content
    ):
        content = "".join(part.get("text", "") for part in content)
    return _words(content, f"{place}.content")


def _only(message: Mapping[str, Any], place: str, known: Iterable[str]) -> None:
    odd = {key for key, value in message.items() if value is not None} - set(known)
    if odd:
        raise Misfit(f"{place} has {', '.join(sorted(odd))}, which the new form has no place for")


_READ: Final[Mapping[Format, Callable[[Row], dict[str, Any]]]] = {
    "openai": _same,
    "sharegpt": _from_sharegpt,
    "alpaca": _from_alpaca,
    "prompt-completion": _from_prompt,
    "preferences": _from_preferences,
    "question-answer": _from_question,
}
_WRITE: Final[Mapping[Format, Callable[[Row], dict[str, Any]]]] = {
    "openai": dict,
    "sharegpt": _to_sharegpt,
    "alpaca": _to_alpaca,
    "prompt-completion": _to_prompt,
    "preferences": _to_preferences,
    "question-answer": _to_question,
}
