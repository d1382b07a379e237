"""Tools: what a model is told of functions, how its calls are read, refused, run and shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count as ticks
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tunesmith.inference.grammar import Grammars
from tunesmith.models.base import CallingModel, ChatModel, Functions, Sampling
from tunesmith.models.fake import FakeModel
from tunesmith.models.local import LocalModel
from tunesmith.models.messages import told_of
from tunesmith.models.tools import Asked, Outcome, Tool, call_in, calling
from tunesmith.records import Answer, Conversation, Message, Passage

LONG = Sampling(max_tokens=1000)
ASKED = (Message("system", "Be brief."), Message("user", "what is 1 + 2?"))
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
ADD = Tool("maths.add", "add", "Add numbers.", json.dumps(SCHEMA))
NEG = Tool("maths.neg", "neg", "Negate a number.", json.dumps(SCHEMA))
GOOD = '{"name": "add", "arguments": {"a": 1}}'


@dataclass
class Maths:
    """A Toolbox of two functions; those in `runs` may be run and give what stands there."""

    runs: Mapping[str, Outcome] = field(default_factory=dict)
    ran: list[Mapping[str, Any]] = field(default_factory=list)

    def tool(self, entry_id: str) -> Tool | None:
        """Return the function of an id."""
        return {"maths.add": ADD, "maths.neg": NEG}.get(entry_id)

    def named(self, name: str) -> Tool | None:
        """Return the function of a name."""
        return {"add": ADD, "neg": NEG}.get(name)

    def fault(self, tool: Tool, arguments: Mapping[str, Any]) -> str | None:
        """Return that `a` is missing where it is."""
        return None if "a" in arguments else "a is missing"

    def answer(self, tool: Tool, arguments: Mapping[str, Any], words: str) -> str:
        """Return words and call."""
        return f"{words or 'It does.'} CALL {tool.id}{dict(arguments)}"

    def unknown(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Return a call of nothing."""
        return f"UNKNOWN {name}"

    def run(self, tool: Tool, arguments: Mapping[str, Any]) -> Outcome | None:
        """Return what it gives."""
        self.ran.append(arguments)
        return self.runs.get(tool.id)


class Finds:
    """A Retriever of both functions' passages."""

    def search(self, questions: Sequence[str], count: int) -> list[tuple[Passage, ...]]:
        """Return them for each question."""
        return [
            (Passage("maths.add", "add", 1.0), Passage("maths.neg", "neg", 0.5))[:count] for _ in questions
        ]


@dataclass
class Script:
    """A model that says its lines one after the other, and keeps what it was shown."""

    lines: Sequence[str]
    shown: list[Conversation] = field(default_factory=list)
    name: str = "script"

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
        """Return the next line for each conversation."""
        answers = []
        for conversation in conversations:
            answers.append(Answer(self.lines[len(self.shown)], 10, 5, 1.0))
            self.shown.append(conversation)
        return answers

    def stream(self, conversation: Conversation, sampling: Sampling) -> Any:
        """Yield the next line."""
        yield self.reply([conversation], sampling)[0].text


def talk(lines: Sequence[str], toolbox: Maths | None = None, **more: Any) -> tuple[Answer, Script]:
    """Return the answer of a model that says these lines, and the model."""
    script = Script(lines)
    model = calling(script, toolbox or Maths(), Finds(), **more)
    [answer] = model.reply([ASKED], LONG)
    return answer, script


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        (GOOD, Asked("add", {"a": 1})),
        (f"<tool_call>\n{GOOD}\n</tool_call>", Asked("add", {"a": 1})),
        ('{"name": "add", "parameters": {"a": 1}}', Asked("add", {"a": 1})),
        (f"Sure: [{GOOD}, {GOOD}]", Asked("add", {"a": 1})),
        (
            '{"type": "function", "function": {"name": "add", "arguments": "{\\"a\\": 1}"}}',
            Asked("add", {"a": 1}),
        ),
        ('{"no": 1} {"name": "neg", "arguments": {}}', Asked("neg", {})),
        ("It is three.", None),
        ('{"name": "add", "arguments": {"a": 1}', None),
        ('{"name": "add", "arguments": [1]}', None),
        ('{"name": "add", "arguments": "{"}', None),
        ('{"name": 3, "arguments": {}}', None),
    ],
)
def test_a_call_is_read_as_templates_teach_it(text: str, asked: Asked | None) -> None:
    """An object with a name and arguments or parameters, whatever stands around it."""
    assert call_in(text) == asked


def test_a_good_call_is_the_answer() -> None:
    """The model is told of functions in words; the answer shows its call, what was found, and the search's time."""
    clock = ticks(10)
    answer, script = talk([GOOD], count=2, clock=lambda: float(next(clock)))
    system = f"Be brief.\n\n{told_of([ADD.told, NEG.told])}"

    assert script.shown == [(Message("system", system), ASKED[1])]
    assert answer == Answer(
        "It does. CALL maths.add{'a': 1}", 10, 5, 2.0, retrieved=("maths.add", "maths.neg"), notes=()
    )


def test_as_many_functions_are_told_as_are_asked_for() -> None:
    """The retriever's first ones."""
    _, script = talk([GOOD], count=1)
    assert script.shown[0][0].content.endswith(told_of([ADD.told]))


def test_a_result_goes_back_and_its_words_stand_before_the_call() -> None:
    """Tokens and time are those of both turns; code in the words is left out, for the code is the call's."""
    toolbox = Maths({"maths.add": Outcome("3")})
    answer, script = talk([GOOD, "It is\n3. ```python\nadd(9)\n```"], toolbox)

    assert answer.text == "It is 3. CALL maths.add{'a': 1}"
    assert script.shown[1][-2:] == (Message("assistant", GOOD), Message("user", "Result of add: 3"))
    assert (answer.prompt_tokens, answer.completion_tokens, round(answer.seconds)) == (20, 10, 2)
    assert answer.notes == ("ran: maths.add gave 3",)
    assert toolbox.ran == [{"a": 1}]


def test_results_go_back_so_many_times() -> None:
    """After that the last call is the answer, and is not run; an error goes back as well."""
    toolbox = Maths({"maths.add": Outcome("ValueError: no", failed=True)})
    answer, script = talk([GOOD, GOOD, GOOD.replace("1", "2")], toolbox, rounds=2)

    assert answer.text == "It does. CALL maths.add{'a': 2}"
    assert len(script.shown) == 3
    assert answer.notes == ("failed: maths.add gave ValueError: no",) * 2
    assert len(toolbox.ran) == 2


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ('{"name": "add", "arguments": {}}', "a is missing"),
        ('{"name": "sum", "arguments": {"a": 1}}', "there is no function sum"),
        ('{"name": "add", "arguments": {"a": 1}', "it is no JSON that can be read"),
    ],
)
def test_a_bad_call_is_asked_again_with_the_reason(bad: str, fault: str) -> None:
    """The model hears what is wrong, and what it says then counts."""
    answer, script = talk([bad, GOOD])
    assert answer.text == "It does. CALL maths.add{'a': 1}"
    assert answer.notes == (f"refused: {fault}",)
    assert script.shown[1][-1].content.startswith(f"That call cannot be made: {fault}. ")
    assert script.shown[1][-2] == Message("assistant", bad)


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ('{"name": "add", "arguments": {}}', "It does. CALL maths.add{}"),
        ('{"name": "sum", "arguments": {}}', "UNKNOWN sum"),
        ('{"name": "add"', '{"name": "add"'),
    ],
)
def test_a_call_that_stays_bad_is_shown_as_it_is(bad: str, text: str) -> None:
    """It is asked again once, not for ever; who judges answers sees what was called."""
    answer, script = talk([bad, bad])
    assert answer.text == text
    assert len(script.shown) == 2
    assert len(answer.notes) == 2


def test_a_good_call_outlives_a_bad_one() -> None:
    """What was called before stands."""
    toolbox = Maths({"maths.add": Outcome("3")})
    answer, _ = talk([GOOD, '{"name": "sum", "arguments": {}}', '{"name": "sum", "arguments": {}}'], toolbox)
    assert answer.text == "It does. CALL maths.add{'a': 1}"


def test_an_answer_without_a_call_is_the_models_own() -> None:
    """It is not asked again."""
    answer, script = talk(["It is three."])
    assert (answer.text, answer.notes) == ("It is three.", ("no function was called",))
    assert len(script.shown) == 1


def test_conversations_of_a_batch_go_on_together() -> None:
    """Those that are done are not asked again; each has its own answer. A stream is the whole answer."""
    replies = {
        "q1": GOOD,
        "q2": "Words.",
        "Result of add: 3": "Three.",
    }
    model = calling(
        FakeModel(lambda talk: replies[talk[-1].content]), Maths({"maths.add": Outcome("3")}), Finds()
    )
    first, second = model.reply([(Message("user", "q1"),), (Message("user", "q2"),)], LONG)

    assert isinstance(model, ChatModel)
    assert model.name == "fake+tools"
    assert (first.text, second.text) == ("Three. CALL maths.add{'a': 1}", "Words.")
    assert list(model.stream((Message("user", "q1"),), LONG)) == [first.text]
    assert model.reply([], LONG) == []


@dataclass
class Native(Script):
    """A model that can be told of functions in a way of its own."""

    knows_functions: bool = True
    told: list[list[str]] = field(default_factory=list)

    def calling(self, functions: Functions) -> ChatModel:
        """Return itself; it notes the functions' names when it is asked."""
        outer = self

        @dataclass
        class Told:
            name: str = "told"

            def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
                outer.told += [[one["name"] for one in functions(each)] for each in conversations]
                return outer.reply(conversations, sampling)

            def stream(self, conversation: Conversation, sampling: Sampling) -> Any:
                yield ""

        return Told()


def test_a_model_with_a_way_of_its_own_is_told_in_it() -> None:
    """Nothing is said in words then, in any turn."""
    model = Native([GOOD, "Three."])
    assert isinstance(model, CallingModel)
    calling(model, Maths({"maths.add": Outcome("3")}), Finds()).reply([ASKED], LONG)
    assert model.told == [["add", "neg"]] * 2
    assert model.shown[0] == ASKED


TOOL_TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n"
    "{% endif %}{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_chat_template_that_knows_tools_tells_of_them(
    chat_tokenizer: PreTrainedTokenizerFast, new_chat_model: Callable[..., Any]
) -> None:
    """One that does not is left alone: then the words do it. Held to a grammar, random weights call a function."""
    plain = LocalModel(new_chat_model(), chat_tokenizer, name="tiny")
    assert not plain.knows_functions

    tokenizer = chat_tokenizer.__class__(
        tokenizer_object=chat_tokenizer.backend_tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
    )
    tokenizer.chat_template = TOOL_TEMPLATE
    native = LocalModel(new_chat_model(), tokenizer, name="tiny")
    assert native.knows_functions
    asked = ((Message("user", "which?"),),)
    [with_tools] = native.calling(lambda _: [ADD.told]).reply(asked, Sampling(max_tokens=1))
    [without] = native.reply(asked, Sampling(max_tokens=1))
    assert with_tools.prompt_tokens > without.prompt_tokens + 50

    grammars = Grammars(tokenizer)

    def hold(model: ChatModel, schema_of: Callable[[Conversation], dict[str, Any]]) -> ChatModel:
        assert isinstance(model, LocalModel)
        return model.constrained(lambda one: grammars.of_schema(schema_of(one)), "held")

    for model in (plain, native):
        [answer] = calling(model, Maths(), Finds(), hold=hold).reply(asked, Sampling(max_tokens=60))
        assert answer.text.startswith("It does. CALL maths.")
        assert answer.notes == ()
