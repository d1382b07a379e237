"""A model within rails: refused, redacted, asked again; whole, in batches and as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from tunesmith.guarding import Check, Context, Guard, Watch, guarded, sifted
from tunesmith.guarding.rails import Find, Found, Span, redacted
from tunesmith.guarding.sentences import Sentences, pieces_of
from tunesmith.models.base import Sampling
from tunesmith.models.citations import citing
from tunesmith.models.fake import FakeModel
from tunesmith.models.messages import Call
from tunesmith.records import Answer, Conversation, Message, Passage, from_json, to_json

ASK = (Message("user", "How?"),)


def finds(word: str) -> Find:
    """Return what finds a word."""

    def find(text: str, _: Context) -> Found | None:
        at = text.find(word)
        return None if at < 0 else Found(f"it says {word}", (Span(at, at + len(word), "***"),))

    return find


@dataclass
class Scripted:
    """A model that says one thing after the other, and remembers what it was asked."""

    says: list[str]
    asked: list[Conversation] = field(default_factory=list)
    name: str = "scripted"

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
        """Say the next thing to each."""
        self.asked += conversations
        return [
            Answer(self.says.pop(0), prompt_tokens=2, completion_tokens=3, seconds=1.0) for _ in conversations
        ]

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[str]:
        """Say the next thing in pieces of three letters."""
        self.asked.append(conversation)
        text = self.says.pop(0)
        yield from (text[at : at + 3] for at in range(0, len(text), 3))


def test_what_is_refused_is_not_asked() -> None:
    """The model is not asked, the answer is the policy's, and its metadata says why."""
    model = Scripted(["fine"])
    guard = Guard((Check("input", "bad", "refuse", finds("bad")),), "No: {reason}.")
    refused, answered = guarded(model, guard, clock=lambda: 0.0).reply(
        [(Message("user", "bad"),), ASK], Sampling()
    )
    assert refused == Answer(
        "No: it says bad.", finish="content_filter", guard=("refuse: input.bad: it says bad",)
    )
    assert answered.text == "fine"
    assert model.asked == [ASK]


def test_earlier_messages_are_left_out_and_the_last_is_answered() -> None:
    """A client sends refused history again; only the last message can refuse the conversation."""
    model = Scripted(["fine"])
    guard = Guard((Check("input", "bad", "refuse", finds("bad")),))
    said = (Message("system", "bad"), Message("user", "bad"), Message("assistant", "No."), *ASK)
    [answer] = guarded(model, guard).reply([said], Sampling())
    assert answer.text == "fine"
    assert [each.content for each in model.asked[0]] == ["bad", "[left out: it says bad]", "No.", "How?"]
    assert answer.guard == ("redact: input.bad: it says bad",)


def test_an_answer_is_asked_again_with_the_reason_and_its_cost_counts() -> None:
    """The second answer is taken; tokens and seconds of both are counted; only the one conversation is asked again."""
    model = Scripted(["bad one", "fine", "good"])
    guard = Guard((Check("output", "bad", "ask_again", finds("bad")),))
    first, second = guarded(model, guard, clock=lambda: 0.0).reply([ASK, ASK], Sampling())
    assert (first.text, first.completion_tokens, first.seconds) == ("good", 6, 2.0)
    assert (second.text, second.completion_tokens) == ("fine", 3)
    assert first.guard == ("ask_again: output.bad: it says bad",)
    assert [each.role for each in model.asked[2]] == ["user", "assistant", "user"]
    assert "it says bad" in model.asked[2][-1].content


def test_asking_again_is_bounded() -> None:
    """After as many tries as the policy allows the answer is refused."""
    model = Scripted(["bad"] * 9)
    guard = Guard((Check("output", "bad", "ask_again", finds("bad")),), "No.", tries=2)
    [answer] = guarded(model, guard).reply([ASK], Sampling())
    assert (answer.text, answer.finish, len(model.asked)) == ("No.", "content_filter", 3)


def test_passages_are_looked_at_before_the_model_sees_them() -> None:
    """A refused passage is left out, a redacted one is changed, and the answer names those that were shown."""

    class Found3:
        def search(self, questions: Sequence[str], count: int) -> list[tuple[Passage, ...]]:
            """Return three passages."""
            return [
                (Passage("a", "good", 3), Passage("b", "evil", 2), Passage("c", "so bad", 1))
                for _ in questions
            ]

    model = Scripted(["fine"])
    rails = (
        Check("retrieval", "evil", "refuse", finds("evil")),
        Check("retrieval", "bad", "redact", finds("bad")),
    )
    [answer] = guarded(model, Guard(rails), Found3(), count=3).reply([ASK], Sampling())
    shown = model.asked[0][-1].content
    assert "- good\n- so ***\n" in shown
    assert "evil" not in shown
    assert answer.retrieved == ("a", "c")
    assert answer.guard == ("redact: retrieval.evil: it says evil", "redact: retrieval.bad: it says bad")


def test_what_a_model_says_beside_its_answer_stays() -> None:
    """Citations, confidence and notes, which are looked at as the answer is; a refused answer has none of them."""

    class Citing(Scripted):
        def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
            """Say what the answer rests on, too."""
            beside = Answer("", retrieved=("a", "b"), cited=("a",), confidence=0.5, notes=("ran: so bad",))
            return [
                replace(beside, text=answer.text, completion_tokens=3)
                for answer in super().reply(conversations, sampling)
            ]

    rails = (Check("output", "bad", "redact", finds("bad")), Check("output", "evil", "refuse", finds("evil")))
    good, evil = guarded(Citing(["good", "evil"]), Guard(rails, "No.")).reply([ASK, ASK], Sampling())
    assert (good.text, good.retrieved, good.cited, good.confidence) == ("good", ("a", "b"), ("a",), 0.5)
    assert good.notes == ("ran: so ***",)
    assert (evil.text, evil.retrieved, evil.cited, evil.confidence, evil.notes) == (
        *("No.", ("a", "b"), (), None),
        (),
    )


def test_quotes_of_passages_are_checked_and_left_out() -> None:
    """As without rails: whole and as a stream, one that no shown passage says is noted."""

    class Found1:
        def search(self, questions: Sequence[str], count: int) -> list[tuple[Passage, ...]]:
            """Return one passage."""
            return [(Passage("a", "It clamps a number.", 1),) for _ in questions]

    said = "##begin_quote## clamps a number ##end_quote##\n##begin_quote## it sings ##end_quote##\nUse clamp."
    model = guarded(Scripted([said, said]), Guard(()), Found1())
    [answer] = model.reply([ASK], Sampling())
    assert (answer.text, answer.cited) == ("Use clamp.", ("a",))
    assert answer.notes == ("quotes what no shown passage says: it sings",)
    assert "".join(model.stream(ASK, Sampling())) == "Use clamp."


def test_a_stream_goes_on_sentence_by_sentence() -> None:
    """A sentence that is fine goes on before the next is whole; redaction and refusal act on their sentence."""
    rails = (Check("output", "bad", "redact", finds("bad")), Check("output", "evil", "refuse", finds("evil")))
    model = FakeModel(lambda _: "One. A bad one. An evil one. More.")
    assert list(guarded(model, Guard(rails, "No.")).stream(ASK, Sampling())) == [
        "One. ",
        "A *** one. ",
        "\n\nNo.",
    ]


def test_a_stream_is_asked_again_only_before_anything_was_said() -> None:
    """Later the answer ends by the refusal."""
    guard = Guard((Check("output", "bad", "ask_again", finds("bad")),), "No.")
    assert "".join(guarded(Scripted(["A bad one. More.", "Good."]), guard).stream(ASK, Sampling())) == "Good."
    late = Scripted(["Good. A bad one.", "never"])
    assert "".join(guarded(late, guard).stream(ASK, Sampling())) == "Good. \n\nNo."
    assert late.says == ["never"]


def test_a_fenced_block_is_looked_at_as_one() -> None:
    """Rails of blocks see a block as soon as it is closed, and code without a fence at the end."""
    guard = Guard((Check("output", "calls", "refuse", finds("bad"), "block"),))
    watch = Watch(guard, Context())
    assert watch.feed("Do this. Then:\n```python\nx = 1\n\ny.bad()\n") == "Do this. Then:\n"
    assert watch.feed("```\n") == ""
    assert watch.stopped
    assert guard.look("output", "y.bad()").action == "refuse"
    assert guard.look("output", "Not bad.\n```\nx = 1\n```\n").action == "allow"


def test_an_answer_of_a_schema_is_held_back_whole() -> None:
    """A rail of whole answers lets nothing go on before the end."""
    watch = Watch(Guard((Check("output", "schema", "refuse", finds("bad"), "answer"),)), Context())
    assert watch.feed('{"a": 1}. And more. ') == ""
    assert watch.end() == '{"a": 1}. And more. '


def test_calls_are_looked_at_by_the_rails_of_tools() -> None:
    """An answer that is calls meets the rails of tools, its arguments the others; words in braces meet the others."""
    rails = (
        Check("tools", "names", "refuse", finds("delete")),
        Check("output", "bad", "redact", finds("bad")),
    )
    guard = Guard(rails)
    assert guard.look("output", '{"name": "delete", "arguments": {}}').action == "refuse"
    assert guard.look("output", '{"name": "bad", "arguments": {}}').text == '{"name": "bad", "arguments": {}}'
    assert guard.look("output", "{bad}").text == "{***}"
    call = '{"name": "a", "arguments": {"bad": ["so \\u0062ad", 1, true]}}'
    assert guard.look("output", call).text == '{"name": "a", "arguments": {"***": ["so ***", 1, true]}}'
    refusing = Guard((*rails, Check("output", "one", "refuse", finds("1"))))
    assert refusing.look("output", call).action == "refuse"


def test_what_is_shown_in_place_of_a_call_is_redacted() -> None:
    """A rail of tools that shows calls gets what is left of their arguments."""

    def shows(text: str, _: Context) -> Found:
        return Found("it is only shown", (Span(0, len(text), f"Not called: {text}"),))

    guard = Guard(
        (Check("output", "bad", "redact", finds("bad")), Check("tools", "dry_run", "redact", shows))
    )
    said = guard.look("output", '{"name": "a", "arguments": {"b": "so bad"}}').text
    assert said.startswith("Not called: ")
    assert "so ***" in said


def test_a_call_claims_nothing() -> None:
    """Rails that hold an answer against passages have none to hold arguments against; they know each value's name."""
    seen = list[tuple[str, Context]]()

    def remembers(text: str, context: Context) -> None:
        seen.append((text, context))

    guard = Guard((Check("output", "grounding", "refuse", remembers),))
    context = Context(question="q", passages=(Passage("a", "x", 1.0),))
    guard.called([Call("a", '{"b": ["c"]}'), Call("a", "no JSON")], context)
    bare = Context(question="q")
    assert seen == [("b", bare), ("c", replace(bare, before="b: ")), ("no JSON", bare)]


def test_a_model_that_retrieves_by_itself_is_held_against_what_it_was_shown() -> None:
    """Whole, asked again, and as a stream; what was found in its passages is told."""

    class Found2:
        def search(self, questions: Sequence[str], count: int) -> list[tuple[Passage, ...]]:
            """Return two passages for each question."""
            return [(Passage("a", f"so bad: {asked[:4]}", 2), Passage("b", "evil", 1)) for asked in questions]

    known = list[tuple[str, ...]]()

    def remembers(text: str, context: Context) -> Found | None:
        # Notes are held against nothing.
        if context.passages:
            known.append(tuple(each.text for each in context.passages))
        return Found("it says no") if text == "No." else None

    rails = (
        Check("retrieval", "bad", "redact", finds("bad")),
        Check("retrieval", "evil", "refuse", finds("evil")),
        Check("output", "grounding", "ask_again", remembers),
    )
    guard = Guard(rails)
    shows = sifted(Found2(), guard)
    model = guarded(citing(Scripted(["No.", "Yes.", "Yes."]), shows), guard, shows=shows)
    [answer] = model.reply([ASK], Sampling())
    assert known == [("so ***: How?",), ("so ***: How?", "so ***: Your")]
    assert (answer.text, answer.retrieved) == ("Yes.", ("a",))
    assert answer.guard[0] == "redact: retrieval.bad: it says bad"
    assert "".join(model.stream(ASK, Sampling())) == "Yes."
    assert known[2:] == [("so ***: How?",)]


@given(
    st.lists(
        st.sampled_from(["A word", ". ", "\n", "```", "e.g. ", "。", "x", "! ", "Mr. ", "1. "]), max_size=30
    )
)
def test_pieces_rejoin_to_the_answer(parts: list[str]) -> None:
    """However an answer comes, its pieces are its letters in order, and a guard without rails changes none."""
    text = "".join(parts)
    sentences = Sentences()
    came = [piece for part in parts for piece in sentences.feed(part)]
    assert "".join(came) + sentences.rest() == text
    assert "".join(pieces_of(text)) == text
    watch = Watch(Guard(()), Context())
    assert "".join(watch.feed(part) for part in parts) + watch.end() == text


def test_sentences_end_where_people_end_them() -> None:
    """Titles, initials, numbers and list marks end none; lines do; a block is one piece."""
    text = "Dr. A. Smith paid 3.14 e.g. in cash. Then?\n1. One\n```py\na. b\n```\n终。好"
    assert pieces_of(text) == [
        "Dr. A. Smith paid 3.14 e.g. in cash. ",
        "Then?",
        "\n",
        "1. One\n",
        "```py\na. b\n```\n",
        "终。",
        "好",
    ]


@given(st.text("ab", max_size=12), st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=4))
def test_redaction_leaves_the_rest_alone(text: str, places: list[tuple[int, int]]) -> None:
    """What lies in no span stays, in order."""
    spans = [Span(min(a, b, len(text)), min(max(a, b), len(text)), "") for a, b in places]
    inside = {at for span in spans for at in range(span.start, span.end)}
    assert redacted(text, spans) == "".join(letter for at, letter in enumerate(text) if at not in inside)


def test_old_answers_read() -> None:
    """An answer that was written before there were rails has none."""
    old = '{"text": "a", "prompt_tokens": 1, "completion_tokens": 1, "seconds": 0.0, "finish": "stop", "retrieved": []}'
    assert from_json(Answer, old) == Answer("a", 1, 1)
    new = Answer("a", guard=("refuse: input.bad: why",), finish="content_filter")
    assert from_json(Answer, to_json(new)) == new
