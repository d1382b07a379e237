"""Which method for which task, from rules: what to say before anything was measured.

The eight tasks are those of the seminar "LLM Fine-Tuning" (Sydney Informatics Hub, November 2023). The marks are ours:
each rests on the published finding that is named, and gives way to a measurement on the user's own questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from statistics import NormalDist
from typing import Final, Literal

from tunesmith.errors import UsageError

Method = Literal["prompts", "tools", "embeddings", "fine-tuning"]
#: Begin with it; add it where that is measured to fall short; it does little for this task.
Mark = Literal["begin", "add", "little"]

METHODS: Final[tuple[Method, ...]] = ("prompts", "tools", "embeddings", "fine-tuning")


@dataclass(frozen=True, slots=True)
class Rule:
    """What to try for a task, a mark for each of METHODS; when tuning pays, the reason, and whose finding it is.

    `example` is the folder of the example in which small models were measured at the task (docs/when-to-fine-tune.md).
    """

    task: str
    marks: tuple[Mark, Mark, Mark, Mark]
    tune_when: str
    why: str
    sources: tuple[str, ...]
    example: str


_FALSE_PROMISE = "Gudibande et al. 2023, arXiv:2305.15717"
_FINE_TUNING_OR_RETRIEVAL = "Ovadia et al. 2023, arXiv:2312.05934"
_GORILLA = "Patil et al. 2023, arXiv:2305.15334"
_LIMA = "Zhou et al. 2023, arXiv:2305.11206"
_NEW_KNOWLEDGE = "Gekhman et al. 2024, arXiv:2405.05904"
_RAFT = "Zhang et al. 2024, arXiv:2403.10131"
_GUIDED = "Willard and Louf 2023, arXiv:2307.09702"
_SBERT = "Reimers and Gurevych 2019, arXiv:1908.10084"
_SMALL_CLASSIFIERS = "Bucher and Martini 2024, arXiv:2406.08660"
_SETFIT = "Tunstall et al. 2022, arXiv:2209.11055"
_LAMP = "Salemi et al. 2023, arXiv:2304.11406"

RULES: Final = (
    Rule(
        "prototyping",
        ("begin", "add", "add", "little"),
        "Not yet: what should be tuned is known only after the prompt's failures have been read.",
        "A prompt is changed in a minute, and its failures become the first test questions.",
        (_LIMA,),
        "examples/prototyping",
    ),
    Rule(
        "automated workflow integration",
        ("add", "begin", "add", "add"),
        "Calls still go wrong though the right entry was shown, or the functions' list is too long for a prompt.",
        "A call must exist and bind: a schema or a grammar makes sure of that, tuning alone does not.",
        (_GORILLA, _GUIDED),
        "examples/workflow-integration",
    ),
    Rule(
        "consistent task execution",
        ("begin", "add", "little", "add"),
        "The same form is wanted every time, many times a day, and a few hundred good examples are at hand.",
        "Form and style are what tuning teaches with few examples; a grammar enforces form without any.",
        (_LIMA, _GUIDED),
        "examples/consistent-execution",
    ),
    Rule(
        "semantic search",
        ("little", "little", "begin", "little"),
        "Tune the encoder, not the language model, on questions of your users with the pieces that answer them.",
        "Finding is what embeddings are for, and a language model only words what was found.",
        (_SBERT,),
        "examples/semantic-search",
    ),
    Rule(
        "content clustering",
        ("little", "little", "begin", "little"),
        "The clusters follow words and not what matters to you: tune the encoder on pairs that belong together.",
        "Clusters are near each other in an embedding; a language model is of use to name them.",
        (_SBERT,),
        "examples/content-clustering",
    ),
    Rule(
        "specialised domain adaptation",
        ("little", "add", "begin", "add"),
        "Retrieval finds the right piece and the model still does not use it, or speaks of it wrongly.",
        "New facts come in by retrieval; tuned in, they are learned slowly and bring hallucination with them.",
        (_FINE_TUNING_OR_RETRIEVAL, _NEW_KNOWLEDGE, _RAFT),
        "examples/domain-adaptation",
    ),
    Rule(
        "personalised interaction",
        ("begin", "little", "begin", "add"),
        "One voice for all users is wanted, and a prompt does not keep it; what differs by user stays in retrieval.",
        "What is known of a user changes daily and must be forgotten on request; weights can do neither.",
        (_LAMP, _FALSE_PROMISE),
        "examples/personalised-interaction",
    ),
    Rule(
        "classification",
        ("add", "little", "begin", "begin"),
        "Some hundred labelled rows are at hand: a small tuned model, or a classifier on embeddings, beats prompts.",
        "Labels are learned from few rows, cost next to nothing to run, and can be counted right or wrong.",
        (_SMALL_CLASSIFIERS, _SETFIT),
        "examples/classification",
    ),
)


def rules_for(task: str | None) -> tuple[Rule, ...]:
    """Return the rule of a task, by its name or a part of it, or all (None); raises UsageError for no such task."""
    if task is None:
        return RULES
    wanted = " ".join(task.lower().replace("-", " ").replace("_", " ").split())
    found = [rule for rule in RULES if wanted and wanted in rule.task]
    if len(found) == 1:
        return tuple(found)
    names = [rule.task for rule in RULES]
    if found:
        raise UsageError(
            f"{task!r} is part of several tasks' names.",
            hint=f"Which one: {', '.join(rule.task for rule in found)}?",
        )
    near = get_close_matches(wanted, names, 1)
    meant = f"Did you mean {near[0]}? " if near else ""
    raise UsageError(f"no task is called {task!r}.", hint=f"{meant}There are: {', '.join(names)}.")


@dataclass(frozen=True, slots=True)
class Detectable:
    """How many test questions show a difference of how much (a share) between two methods, most of the time."""

    questions: int
    difference: float


def detectable(
    counts: Sequence[int] = (50, 100, 200, 400, 1000),
    *,
    apart: float = 0.3,
    level: float = 0.95,
    power: float = 0.8,
) -> tuple[Detectable, ...]:
    """Return the smallest difference that so many paired questions show; `apart` is the share answered unlike.

    The normal approximation of McNemar's test for small differences (O. S. Miettinen, The matched pairs design in
    the case of all-or-none responses, Biometrics 24, 1968). After a measurement the report says it from the data.
    """
    normal = NormalDist()
    z = normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(power)
    # A difference cannot be larger than the share of questions that are answered unlike.
    return tuple(Detectable(count, min(apart, z * (apart / count) ** 0.5)) for count in counts)
