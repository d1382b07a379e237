"""The gates: what a model writes and the source does not bear out is stopped, by the gate that is for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tunesmith.catalogue import Catalogue
from tunesmith.generating.gates import (
    Ground,
    Pair,
    Stopped,
    Turn,
    cut_off,
    find_verbatim,
    first_stop,
    sessions,
)

SOURCE = """\
# Timeouts

The client waits 5 seconds by default. Pass `timeout=10.0` to `Client.get` to wait longer, or `timeout=None` to wait
without end. Mary Jones wrote the retry logic in 2019; it tries three times and keeps 40% of the budget.

```python
from shop import Client
client = Client(retries=3)
client.get("/orders", timeout=10.0)
```
"""
GROUND = Ground(SOURCE, "Timeouts")
GOOD = Pair(
    "how-to",
    (
        Turn(
            "How can I give a slow server more time?",
            "Pass a larger `timeout` to `Client.get`; the default is 5 seconds.",
        ),
    ),
    ("Pass `timeout=10.0` to `Client.get` to wait longer", "The client waits 5 seconds by default."),
)


def _saying(answer: str, **more: object) -> Pair:
    return replace(GOOD, turns=(replace(GOOD.turns[0], answer=answer),), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "answer",
    [
        GOOD.answer,
        "It tries 3 times, and 40 % of the budget is kept.",
        "Mary Jones wrote it.",
        "Give `timeout=None`:\n\n```python\nfrom shop import Client\n\nreply = Client().get(url, timeout=None)\n```",
        "1. Make a client.\n2. Call `get` with a `timeout`.",
    ],
)
def test_what_the_source_says_passes(answer: str) -> None:
    """In other words, with numbers in letters or figures, in code with variables of its own, as a list."""
    assert first_stop(_saying(answer), GROUND) is None


@pytest.mark.parametrize(
    ("answer", "gate"),
    [
        ("Pass a larger `timeout` to", "form"),
        ("Pass `timeout", "form"),
        ("Use this:\n\n```python\nclient.get(", "form"),
        ("", "form"),
        ("Man übergibt der Methode einfach einen größeren Wert für die Wartezeit.", "language"),
        ("Передайте больше времени.", "language"),
        ("The client waits 30 seconds by default.", "numbers"),
        ("The retry logic was written by Peter Smith.", "names"),
        ("Call `Client.set_patience` before you ask.", "symbols"),
        ("Start it with --patient to wait longer.", "symbols"),
        ("Do this:\n\n```python\nclient.get('/orders', patience=True)\n```", "symbols"),
        ("Do this:\n\n```python\nclient.get('/orders', timeout=10.0\n```", "code"),
    ],
)
def test_what_it_does_not_say_is_stopped_by_the_gate_that_is_for_it(answer: str, gate: str) -> None:
    """Each gate has its own faults, and the first one is told."""
    stopped = first_stop(_saying(answer), GROUND)

    assert stopped is not None
    assert stopped.gate == gate


SHOWN = Ground(
    "Call `extract(query, choices, limit=5)` for several:\n\n```python\nextract('new york', teams, limit=2)\n```\n"
    "The score is 83.07692. Speed is physical."
)


@pytest.mark.parametrize(
    ("call", "passes"),
    [
        ("extract('new york', teams, limit=2)", True),
        ("extract('new york', teams)", True),
        ("extract(teams, 'new york', limit=2)", False),
        ("extract('new york', teams, physical=True)", False),
    ],
)
def test_calls_are_made_as_the_source_shows_them(call: str, passes: bool) -> None:
    """With the arguments that it shows, in its order; that a word stands somewhere makes it no argument."""
    answer = f"Like this:\n\n```python\n{call}\n```"
    pair = Pair("code", (Turn("How do I get several teams?", answer),), ("extract(query, choices, limit=5)",))
    stopped = first_stop(pair, SHOWN)

    assert (stopped is None) == passes


def test_a_rounded_number_is_the_sources() -> None:
    """With two decimals or more; one decimal could be anything."""
    for number, passes in (("83.08", True), ("83.1", False), ("83.09", False)):
        pair = Pair("factual", (Turn("What is the score?", f"It is {number}."),), ("The score is 83.07692.",))
        assert (first_stop(pair, SHOWN) is None) == passes


def test_quotes_must_stand_in_the_source() -> None:
    """Line breaks and kinds of quotes do not matter, words do; too few words show nothing."""
    good = _saying(GOOD.answer, quotes=("`timeout=None` to wait\nwithout   end",))

    assert first_stop(good, GROUND) is None
    for quotes in ((), ("wait longer",), ("The client waits 6 seconds by default.",)):
        stopped = first_stop(replace(good, quotes=quotes), GROUND)
        assert stopped is not None
        assert stopped.gate == "quotes"


def test_silence_must_be_said() -> None:
    """An example of what the material does not say needs no quote, and an answer that says so."""
    asked = Turn("Which proxy does the client use?", "The documentation does not say which proxy is used.")
    pair = Pair("not in the material", (asked,), ())

    assert first_stop(pair, GROUND) is None
    made_up = replace(pair, turns=(replace(asked, answer="It uses the proxy of the system."),))
    assert first_stop(made_up, GROUND) == Stopped(
        "form", "the answer does not say that the material is silent: 'It uses the proxy of the system.'"
    )


def test_a_question_about_an_unseen_text_is_stopped() -> None:
    """Nobody who asks has the text before them."""
    pair = replace(
        GOOD, turns=(replace(GOOD.turns[0], question="What does the text above say about timeouts?"),)
    )

    stopped = first_stop(pair, GROUND)

    assert stopped is not None
    assert stopped.gate == "form"


def test_calls_are_held_against_the_catalogue(catalogue: Catalogue) -> None:
    """What does not exist, and what does not bind, though the text names both."""
    ground = Ground("shapes: `area(shape, unit)`, volume(shape), and a corner.", catalogue=catalogue)
    quotes = ("volume(shape), and a corner",)
    for call, passes in (("sh.area(s)", True), ("sh.volume(s)", False), ("sh.area()", False)):
        answer = f"Like this:\n\n```python\nimport shapes as sh\n\n{call}\n```"
        stopped = first_stop(Pair("code", (Turn("How large is it?", answer),), quotes), ground)
        assert (stopped is None) == passes
        assert stopped is None or stopped.gate == "code"


@pytest.mark.parametrize(
    ("answer", "whole"),
    [
        ("It does.", True),
        ("Three of them", True),
        ("It takes a list of names, such as", False),
        ("- one\n- two", True),
        ("The call returns the number of rows that the table has after it was", False),
        ("See (the manual.", False),
        ('He said "yes."', True),
    ],
)
def test_answers_that_stop_in_the_middle_are_told_from_short_ones(answer: str, whole: bool) -> None:
    """A phrase is an answer, half a sentence is none."""
    assert (cut_off(answer) is None) == whole


def test_a_quote_is_found_with_its_place() -> None:
    """The place is that of the source's own characters."""
    text = "He wrote “a – b”\n  and left."

    assert find_verbatim(text, '"a - b" and left') == (9, len(text) - 1)
    assert find_verbatim(text, "") is None


def test_sessions_are_blocks_that_promise_an_output() -> None:
    """Code without an output promises nothing that could be looked at."""
    answer = "A:\n\n```python\n>>> 1 + 1\n2\n```\n\nB:\n\n```python\nprint(1)\n```\n"

    assert sessions(answer) == (">>> 1 + 1\n2\n",)
