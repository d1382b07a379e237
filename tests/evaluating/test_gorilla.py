"""Gorilla's published metric: what it finds, what it is lenient about, and its figures on its own answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunesmith.evaluating.gorilla import Known, call_in, find_known, judge_answer, judge_call, known_calls

ROOT = Path(__file__).parents[2]
ANSWERS = ROOT / "benchmarks" / "data" / "gorilla_torchhub.jsonl"
CATALOGUE = ROOT.parent / "shared" / "data" / "apibench-torchhub" / "torchhub_api.jsonl"

KNOWN = known_calls(
    (
        ("torch.hub.load(repo_or_dir='a/nets', model='net18', pretrained=True)", "Classification"),
        ("torch.hub.load(repo_or_dir='a/nets', model='seg', pretrained=True)", "Segmentation"),
        ("torch.hub.load(repo_or_dir='b/speech', model='tts', model_math='fp16')", "Speech"),
        ("torch.hub.load(repo_or_dir='c/mt')", "Translation"),
        ("torch.hub.load(repo_or_dir='d/meal', 'meal', model='meal_s', **{'device':'cpu', 'n': 2})", "Meals"),
    )
)


def test_a_known_call_is_its_function_its_names_and_its_domain() -> None:
    """Names are the values of arguments that have repo_or_dir or model in them, also where the call is no Python."""
    assert (
        Known("torch.hub.load", ("a/nets", "net18"), "Classification"),
        Known("torch.hub.load", ("a/nets", "seg"), "Segmentation"),
        Known("torch.hub.load", ("b/speech", "tts", "fp16"), "Speech"),
        Known("torch.hub.load", ("c/mt",), "Translation"),
        Known("torch.hub.load", ("d/meal", "meal_s"), "Meals"),
    ) == KNOWN


@pytest.mark.parametrize(
    ("call", "domain", "verdict"),
    [
        ("torch.hub.load('a/nets', 'net18', pretrained=True)", "Classification", "correct"),
        ("torch.hub.load('a/nets', 'net18', pretrained=True)", "Speech", "wrong"),
        ("model = torch.hub.load(repo_or_dir='a/nets', model='seg').eval()", "Segmentation", "correct"),
        ('torch.hub.load("a/nets", "seg")', "Segmentation", "correct"),
        # Names may stand anywhere in a longer name, and what else is said does not count.
        ("torch.hub.load('x/a/nets:v2', 'vanilla_net18_bn', nonsense=1)", "Classification", "correct"),
        ("torch.hub.load('c/mt', 'no such model')", "Translation", "correct"),
        # The published list has fp16.
        ("torch.hub.load('b/speech', 'tts')", "Speech", "hallucinated"),
        ("torch.hub.load('b/speech', 'tts', model_math='fp16')", "Speech", "correct"),
        ("torch.hub.load('a/nets', 'net50')", "Classification", "hallucinated"),
        ("torch.load('a/nets', 'net18')", "Classification", "hallucinated"),
        ("torch.hub.load('a/nets', 'net18'", "Classification", "hallucinated"),
        ("", "Classification", "hallucinated"),
        # The last of several calls counts, and none that stands in a string.
        (
            "a = torch.hub.load('a/nets', 'net18')\nb = torch.hub.load('a/nets', 'seg')",
            "Segmentation",
            "correct",
        ),
        (
            "print(\"torch.hub.load('a/nets', 'net18')\", torch.hub.load('a/nets', 'seg'))",
            "Segmentation",
            "correct",
        ),
        # Quotes as models write dicts: escaped ones are skipped, equal ones swallow the call's name.
        (r"\"model = torch.hub.load('a/nets', 'net18', pretrained=True)", "Classification", "correct"),
        (r"\"model = torch.hub.load(\"a/nets\", \"net18\")", "Classification", "correct"),
        ("'model = torch.hub.load('a/nets', 'net18', pretrained=True)", "Classification", "hallucinated"),
    ],
)
def test_a_call_is_judged_by_the_names_in_it(call: str, domain: str, verdict: str) -> None:
    """The first known call all of whose names stand in the answer's decides; derived from the published script."""
    assert judge_call(call, domain, KNOWN) == verdict


def test_of_an_answer_counts_what_stands_between_two_words() -> None:
    """As the script cuts it: from after the colon to the last parenthesis before api_provider."""
    answer = "<<<domain>>>: x\n<<<api_call>>>: torch.hub.load('c/mt')\n<<<api_provider>>>: PyTorch (Hub)"
    assert call_in(answer.replace("<<<api_call>>>:", "api_call:")) == "torch.hub.load('c/mt')"
    assert (
        judge_answer("{'api_call': torch.hub.load('c/mt'), 'api_provider': ..}", "Translation", KNOWN)
        == "correct"
    )
    assert judge_answer("torch.hub.load('c/mt')", "Translation", KNOWN) == "wrong"


def test_the_released_answers_score_what_the_published_script_says() -> None:
    """Gorilla-7B without retrieval, TorchHub: 0.7580645161290323 and 0.16129032258064516 (gorilla issue 17)."""
    if not CATALOGUE.is_file():
        pytest.skip("APIBench's list of TorchHub's calls is not here; it is no part of this repository")
    listed = [json.loads(line) for line in CATALOGUE.read_text(encoding="utf-8").splitlines()]
    known = known_calls((one["api_call"], one["domain"]) for one in listed)
    right_of = {one.names[min(1, len(one.names) - 1)].replace(".", "-"): one for one in known}
    rows = [json.loads(line) for line in ANSWERS.read_text(encoding="utf-8").splitlines()]
    verdicts = [
        judge_answer(f"'api_call{row['said']}api_provider': 'PyTorch'", right_of[row["right"]].domain, known)
        for row in rows
    ]
    assert len(verdicts) == 186
    assert verdicts.count("correct") / 186 == 0.7580645161290323
    assert verdicts.count("hallucinated") / 186 == 0.16129032258064516
    assert (
        sum(right_of[row["right"]].domain == "Classification" for row in rows) == 158
    )  # the constant's 84.95 %
    calls = [call_in(f"api_call{row['said']}") or "" for row in rows]
    exact = [find_known(call, known) == right_of[row["right"]] for call, row in zip(calls, rows, strict=True)]
    assert sum(exact) == 16  # 8.60 %
