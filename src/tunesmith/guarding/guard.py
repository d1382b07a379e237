"""Rails around a model: what it is asked, what it is shown, what it says and calls, whole or as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from tunesmith.guarding.rails import (
    Action,
    Context,
    Finding,
    Outcome,
    Rail,
    Where,
    look,
    outcome,
    strictest,
)
from tunesmith.guarding.sentences import Sentences, is_block
from tunesmith.guarding.tools import calls_of, lines_of, read_through
from tunesmith.models.base import ChatModel, Retriever, Sampling
from tunesmith.models.messages import Call
from tunesmith.models.quotes import checked, streamed_without_quotes
from tunesmith.models.wrappers import with_passages
from tunesmith.records import Answer, Conversation, Message, Passage

# Of what was said before, so much is looked at once more with each sentence: a name may stand a line above its address.
_TAIL = 400


@dataclass(frozen=True, slots=True)
class Guard:
    """The rails of a policy, the words of its refusals, and how often a model is asked again.

    `{reason}` in the words stands for why.
    """

    rails: tuple[Rail, ...]
    refusal: str = "I cannot help with that."
    tries: int = 1

    def at(self, where: Where) -> tuple[Rail, ...]:
        """Return the rails of a place."""
        return tuple(rail for rail in self.rails if rail.where == where)

    def refused(self, reason: str) -> str:
        """Return what is said in place of an answer."""
        return self.refusal.replace("{reason}", reason)

    @property
    def of_sentences(self) -> tuple[Rail, ...]:
        """The rails that look at each sentence of an answer."""
        return tuple(rail for rail in self.at("output") if rail.unit == "sentence")

    def called(self, calls: Sequence[Call], context: Context) -> Outcome:
        """Return what becomes of calls as lines of JSON; a text that is none is shown in their place.

        Their arguments are said, too: the rails of sentences look at each name and value, which claim nothing that
        could be held against passages; the rails of tools then look at what is left.
        """
        if not calls:
            return Outcome("allow", "")
        findings = list[Finding]()

        def read(text: str, before: str) -> str:
            found = look(self.of_sentences, text, replace(context, passages=(), before=before))
            findings.extend(found.findings)
            return found.text

        told = lines_of(replace(call, arguments=read_through(call.arguments, read)) for call in calls)
        found = look(self.at("tools"), told, context)
        findings += found.findings
        return Outcome(strictest(findings), found.text, tuple(findings))

    def noted(self, notes: Iterable[str]) -> tuple[str, ...]:
        """Return what is noted of an answer as it may be told: it may repeat the answer and is looked at like it."""
        found = [look(self.of_sentences, note, Context()) for note in notes]
        return tuple(
            f"left out: {each.reason}" if each.action in ("ask_again", "refuse") else each.text
            for each in found
        )

    def look(self, where: Where, text: str, context: Context | None = None) -> Outcome:
        """Return what becomes of a whole text at a place; a refused or unaccepted one comes back as it is."""
        known = context or Context()
        if where != "output":
            return look(self.at(where), text, known)
        watch = Watch(self, known)
        said = watch.feed(text) + watch.end()
        return Outcome(watch.action, text if watch.stopped else said, tuple(watch.findings))

    def read(self, conversation: Conversation) -> Read:
        """Look at all that users say in a conversation; see `heard`."""
        texts, found = self.heard([each.content for each in conversation if each.role == "user"])
        left = iter(texts)
        messages = tuple(
            replace(each, content=next(left)) if each.role == "user" else each for each in conversation
        )
        return Read(messages, found)

    def heard(self, texts: Sequence[str]) -> tuple[tuple[str, ...], Outcome]:
        """Return what a user has said, the last text last, as a model may read it, and what was found in all of it.

        What the last text is refused for refuses all. An earlier one is history, which clients send again and again:
        it is left out, and the conversation goes on.
        """
        rails, read, findings = self.at("input"), list[str](), list[Finding]()
        for left, text in zip(range(len(texts) - 1, -1, -1), texts, strict=True):
            found = look(rails, text, Context())
            if found.action == "refuse" and left:
                read.append(f"[left out: {found.reason}]")
                findings += [replace(each, action="redact") for each in found.findings]
            else:
                read.append(found.text)
                findings += found.findings
        return tuple(read), outcome("", findings)

    def shown(self, passages: Sequence[Passage]) -> tuple[tuple[Passage, ...], tuple[Finding, ...]]:
        """Return the passages that a model may see, and what was found in all of them.

        One that is refused is left out and the others stay, for whoever asks has not written it.
        """
        kept, findings = list[Passage](), list[Finding]()
        for passage in passages:
            found = look(self.at("retrieval"), passage.text, Context(source=passage.id))
            if found.action == "refuse":
                findings += [replace(each, action="redact") for each in found.findings]
            else:
                findings += found.findings
                kept.append(replace(passage, text=found.text))
        return tuple(kept), tuple(findings)


@dataclass(frozen=True, slots=True)
class Read:
    """A conversation as a model may read it, and what was found in it."""

    conversation: Conversation
    found: Outcome


@dataclass
class Watch:
    """Looks at one answer while it is said: `feed` and `end` return what may go on, no more than a sentence late.

    A fenced block and an answer that may be a call count as a sentence, and so does all of an answer that must fit a
    schema. Once it is stopped nothing goes on any more; `action` says whether it is refused or may be asked again.
    """

    guard: Guard
    context: Context
    findings: list[Finding] = field(default_factory=list)
    come: str = ""
    said: str = ""
    stopped: bool = False

    def __post_init__(self) -> None:
        rails = self.guard.at("output")
        self._by_sentence = self.guard.of_sentences
        self._by_block = tuple(rail for rail in rails if rail.unit == "block")
        self._whole = tuple(rail for rail in rails if rail.unit == "answer")
        self._tools = self.guard.at("tools")
        self._sentences = Sentences()
        self._blocks = 0

    @property
    def action(self) -> Action:
        """The strictest action so far."""
        return strictest(self.findings)

    @property
    def reason(self) -> str:
        """Why it was stopped, or what was found first of the strictest kind."""
        return next((each.reason for each in self.findings if each.action == self.action), "")

    def feed(self, text: str) -> str:
        """Take what has come, and return what may go on."""
        self.come += text
        if self.stopped or self._is_held():
            return ""
        return "".join(self._passed(piece) for piece in self._sentences.feed(text))

    def end(self) -> str:
        """Return what may go on now that the answer is whole."""
        if self.stopped:
            return ""
        if self._tools and (calls := calls_of(self.come)):
            return self._taken(self._called(calls))
        if self._is_held():
            self._taken(look(self._whole, self.come, self.context), said=False)
            pieces = self._sentences.feed(self.come)
        else:
            pieces = []
        rest = self._sentences.rest()
        said = "".join(self._passed(piece) for piece in (*pieces, rest) if piece)
        if not self._blocks and not self.stopped:
            # Code without a fence around it.
            self._taken(look(self._by_block, self.come, self.context), said=False)
        return "" if self.stopped and self._is_held() else said

    def _is_held(self) -> bool:
        """Tell whether nothing may go on before the answer is whole."""
        return bool(self._whole) or (bool(self._tools) and self.come.lstrip().startswith("{"))

    def _called(self, calls: Sequence[Call]) -> Outcome:
        """Return what becomes of an answer that is calls."""
        found = self.guard.called(calls, self.context)
        if found.action != "redact":
            return replace(found, text=self.come)
        return replace(found, text="\n".join(call.said for call in calls_of(found.text)) or found.text)

    def _passed(self, piece: str) -> str:
        """Return what of a piece may go on."""
        if self.stopped:
            return ""
        block = is_block(piece)
        self._blocks += block
        rails = (*self._by_sentence, *(self._by_block if block else ()))
        return self._taken(look(rails, piece, replace(self.context, before=self.said[-_TAIL:])))

    def _taken(self, found: Outcome, *, said: bool = True) -> str:
        """Note what was found, and return the text that may go on, if it is to be said at all."""
        self.findings += found.findings
        self.stopped = self.stopped or found.action in ("ask_again", "refuse")
        if self.stopped or not said:
            return ""
        self.said += found.text
        return found.text


def guarded(
    model: ChatModel,
    guard: Guard,
    retriever: Retriever | None = None,
    *,
    count: int = 5,
    shows: Sifted | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> ChatModel:
    """Return the model within rails; with a retriever it sees the `count` nearest passages that the rails let pass.

    A model that shows passages in a way of its own is given them by `shows`, which its answers are held against.
    `Answer.guard` says what was found and done. A refusal is an answer of its own, with `finish` "content_filter". An
    answer that is not accepted is asked for again, `guard.tries` times at most, with the reason, and then refused; its
    tokens and seconds count. In a stream that is only done before anything was said; later a refusal ends the answer.
    """
    return _Guarded(model, guard, retriever, shows, count, clock)


def sifted(retriever: Retriever, guard: Guard) -> Sifted:
    """Return the retriever whose passages the rails have let pass, for a model that shows them in a way of its own."""
    return Sifted(retriever, guard)


@dataclass(frozen=True, slots=True)
class Shown:
    """The passages that a model may see, and what was found in all of them."""

    passages: tuple[Passage, ...]
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class Sifted:
    """A Retriever behind rails; `last` is what its last search has shown, by the question."""

    retriever: Retriever
    guard: Guard
    last: dict[str, Shown] = field(default_factory=dict)

    def search(self, questions: Sequence[str], count: int) -> list[tuple[Passage, ...]]:
        """Return what was found and may be seen."""
        found = self.retriever.search(questions, count)
        self.last = {
            question: Shown(*self.guard.shown(passages))
            for question, passages in zip(questions, found, strict=True)
        }
        return [self.last[question].passages for question in questions]


def asked_again(conversation: Conversation, answer: str, reason: str) -> Conversation:
    """Return the conversation in which a model is told why its answer was not accepted."""
    again = f"Your answer was not accepted: {reason}. Answer the question again, and mend that."
    return (*conversation, Message("assistant", answer), Message("user", again))


@dataclass(frozen=True, slots=True)
class _Asked:
    """A conversation that a model is asked: what it reads, what rails must know, what was found so far."""

    conversation: Conversation
    context: Context
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Guarded:
    """A ChatModel within rails."""

    model: ChatModel
    guard: Guard
    retriever: Retriever | None
    shows: Sifted | None
    count: int
    clock: Callable[[], float]

    @property
    def name(self) -> str:
        """The model's name, what it retrieves, and that it is guarded."""
        return f"{self.model.name}{'+retrieval' if self.retriever else ''}+guarded"

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
        """Return one answer for each conversation, in order; those that are read as one batch are asked as one."""
        start = self.clock()
        asked = [self._asked(conversation) for conversation in conversations]
        reading = (self.clock() - start) / max(1, len(asked))
        answers: dict[int, Answer] = {
            at: self._refusal(found, reading) for at, found in enumerate(asked) if isinstance(found, Outcome)
        }
        going = {at: each for at, each in enumerate(asked) if isinstance(each, _Asked)}
        spent = {at: Answer("", seconds=reading) for at in going}
        for left in range(self.guard.tries, -1, -1):
            said = self.model.reply([each.conversation for each in going.values()], sampling) if going else []
            for (at, before), told in zip(list(going.items()), said, strict=True):
                spent[at] = _summed(spent[at], told)
                each = self._knowing(before)
                answer = told if self.retriever is None else checked(told, each.context.passages)
                found = self.guard.look("output", answer.text, each.context)
                if found.action == "ask_again" and left:
                    words = asked_again(each.conversation, answer.text, found.reason)
                    going[at] = replace(each, conversation=words, findings=(*each.findings, *found.findings))
                    continue
                answers[at] = self._answer(spent[at], answer, each, found)
                del going[at]
        return [answers[at] for at in range(len(asked))]

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[str]:
        """Yield the answer, held back no further than a sentence."""
        asked = self._asked(conversation)
        if isinstance(asked, Outcome):
            yield self.guard.refused(asked.reason)
            return
        for left in range(self.guard.tries, -1, -1):
            watch, come = Watch(self.guard, asked.context), ""
            for piece in self._pieces(asked.conversation, sampling):
                if not come:
                    asked = self._knowing(asked)
                    watch.context = asked.context
                come += piece
                if passed := watch.feed(piece):
                    yield passed
                if watch.stopped:
                    break
            if passed := watch.end():
                yield passed
            if not watch.stopped:
                return
            if watch.action == "refuse" or watch.said or not left:
                yield ("\n\n" if watch.said else "") + self.guard.refused(watch.reason)
                return
            asked = replace(asked, conversation=asked_again(asked.conversation, come, watch.reason))

    def _knowing(self, asked: _Asked) -> _Asked:
        """Return what was asked, with the passages that the model was shown meanwhile, and what was found in them."""
        shown = None if self.shows is None else self.shows.last.get(_question(asked.conversation))
        if shown is None:
            return asked
        passages = tuple(dict.fromkeys((*asked.context.passages, *shown.passages)))
        context = replace(asked.context, passages=passages)
        return replace(asked, context=context, findings=(*asked.findings, *shown.findings))

    def _pieces(self, conversation: Conversation, sampling: Sampling) -> Iterator[str]:
        """Return the model's pieces, without the quotes of passages that it was shown here."""
        pieces = self.model.stream(conversation, sampling)
        return pieces if self.retriever is None else streamed_without_quotes(pieces)

    def _asked(self, conversation: Conversation) -> _Asked | Outcome:
        """Return what the model is to be asked, or why it is not."""
        read = self.guard.read(conversation)
        if read.found.action == "refuse":
            return read.found
        question = _question(read.conversation)
        if self.retriever is None:
            return _Asked(read.conversation, Context(question=question), read.found.findings)
        [found] = self.retriever.search([question], self.count)
        passages, findings = self.guard.shown(found)
        return _Asked(
            with_passages(read.conversation, passages),
            Context(question=question, passages=passages),
            (*read.found.findings, *findings),
        )

    def _refusal(self, found: Outcome, seconds: float) -> Answer:
        text = self.guard.refused(found.reason)
        return Answer(text, seconds=seconds, finish="content_filter", guard=tuple(map(str, found.findings)))

    def _answer(self, spent: Answer, answer: Answer, asked: _Asked, found: Outcome) -> Answer:
        """Return an answer as it may be given, with all that its making has cost.

        Of one that is refused nothing is said.
        """
        stopped = found.action in ("ask_again", "refuse")
        given = replace(
            answer,
            prompt_tokens=spent.prompt_tokens,
            completion_tokens=spent.completion_tokens,
            seconds=spent.seconds,
            retrieved=answer.retrieved
            if self.retriever is None
            else tuple(each.id for each in asked.context.passages),
            guard=tuple(map(str, (*asked.findings, *found.findings))),
        )
        if stopped:
            text = self.guard.refused(found.reason)
            return replace(given, text=text, finish="content_filter", cited=(), notes=(), confidence=None)
        return replace(given, text=found.text, notes=self.guard.noted(answer.notes))


def _question(conversation: Conversation) -> str:
    return next((each.content for each in reversed(conversation) if each.role == "user"), "")


def _summed(spent: Answer, answer: Answer) -> Answer:
    return replace(
        spent,
        prompt_tokens=spent.prompt_tokens + answer.prompt_tokens,
        completion_tokens=spent.completion_tokens + answer.completion_tokens,
        seconds=spent.seconds + answer.seconds,
    )
