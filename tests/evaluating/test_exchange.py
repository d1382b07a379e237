"""Results to files and back: ours, lm-eval's and inspect's, also such as others wrote, with what is unknown named."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunesmith.errors import DatasetError, UsageError
from tunesmith.evaluating.comparing import Measured, compare_measured
from tunesmith.evaluating.exchange.files import ResultForm, holds_results, read_results, write_results
from tunesmith.evaluating.exchange.results import Results
from tunesmith.records import Answer, Example, Score

MakeScores = Callable[..., tuple[Score, ...]]
MakeExample = Callable[..., Example]
FORMS: tuple[ResultForm, ...] = ("json", "lm-eval", "inspect")


@pytest.fixture
def results(scores: MakeScores, example: MakeExample) -> Results:
    """Two contenders and a floor, of calls in one set and of words in another."""
    calls = [replace(example(number, "center"), id=f"q{number}") for number in range(4)]
    words = [Example(f"w{number}", f"why {number}?", f"so {number}", "rule:x") for number in range(2)]
    said = tuple(
        Score(
            "base", "seen", one.id, one.id, None, None, Answer(one.answer, 3, 2, 0.5), measures={"f1": 0.25}
        )
        for one in words
    )
    return Results(
        name="my project",
        made="2026-11-01T12:00:04+00:00",
        scores=(*scores("base", "x.vh"), *scores("tuned+retrieval", "xxx."), *said),
        floors=scores("nearest", "x..."),
        questions={one.id: one for one in (*calls, *words)},
        settings={"evaluate": {"max_tokens": 80}},
        versions={"torch": "2.13.0"},
        figures={"verdict": "Fine-tune."},
    )


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_read_back(results: Results, form: ResultForm, tmp_path: Path) -> None:
    """Every answer and every question is the same again, in each form; our own also keeps the rest."""
    files = write_results(results, tmp_path / "out", form)
    assert all(file.is_file() for file in files)
    assert holds_results(tmp_path / "out")
    again = read_results(tmp_path / "out")
    assert sorted(again.every, key=repr) == sorted(results.every, key=repr)
    assert again.questions == results.questions
    assert not again.unread
    if form == "json":
        assert again == results


@pytest.mark.parametrize("form", FORMS)
def test_a_run_is_compared_with_its_own_file(results: Results, form: ResultForm, tmp_path: Path) -> None:
    """Pairs are found by question, nothing has changed."""
    write_results(results, tmp_path / "out", form)
    again = read_results(tmp_path / "out")
    found = compare_measured(_measured(results), _measured(again))
    assert {(row.contender, row.set, row.metric) for row in found.rows} == {
        ("base", "asked", "exact"),
        ("tuned+retrieval", "asked", "exact"),
        ("nearest", "asked", "exact"),
        ("base", "seen", "f1"),
    }
    assert all(row.paired.difference == 0 and not row.lost for row in found.rows)


def _measured(results: Results) -> Measured:
    return Measured(results.name, results.made, results.every, results.questions)


def test_figures_are_the_harnesses_own(results: Results, tmp_path: Path) -> None:
    """The means stand where lm-eval and inspect look for them."""
    files = write_results(results, tmp_path / "harness", "lm-eval")
    [summed] = [file for file in files if file.parent.name == "tuned+retrieval" and file.suffix == ".json"]
    told = json.loads(summed.read_text(encoding="utf-8"))
    assert told["results"]["asked"]["exact,none"] == 0.75
    assert told["results"]["asked"]["exact_stderr,none"] == pytest.approx(0.25)
    assert told["n-samples"]["asked"] == {"original": 4, "effective": 4}
    assert told["higher_is_better"]["asked"]["hallucinated"] is False
    files = write_results(results, tmp_path / "logs", "inspect")
    logs = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    [log] = [one for one in logs if one["eval"]["model"] == "tunesmith/tuned+retrieval"]
    assert log["results"]["scores"][0]["metrics"]["mean"]["value"] == 0.75
    assert len(log["samples"]) == 4


@pytest.fixture
def mixed(results: Results) -> Results:
    """One set with calls and answers in words, of which the first has fewer measures than the second."""
    words = {key: one for key, one in results.questions.items() if key.startswith("w")}
    measured = ({"f1": 0.5}, {"f1": 1.0, "citation_recall": 0.25})
    said = tuple(
        Score("base", "asked", key, key, None, None, Answer(one.answer, 3, 2, 0.5), measures=own)
        for (key, one), own in zip(words.items(), measured, strict=True)
    )
    return replace(results, scores=(*(one for one in results.scores if one.verdict is not None), *said))


def test_the_harness_gets_calls_and_words_as_two_tasks(mixed: Results, tmp_path: Path) -> None:
    """Each has its own counts, and every measure that any of its answers has."""
    files = write_results(mixed, tmp_path / "harness", "lm-eval")
    [summed] = [file for file in files if file.parent.name == "base" and file.suffix == ".json"]
    told = json.loads(summed.read_text(encoding="utf-8"))
    figures = {task: set(found) & {"exact,none", "f1,none"} for task, found in told["results"].items()}
    assert figures == {"asked": {"exact,none"}, "asked-in-words": {"f1,none"}}
    assert told["results"]["asked-in-words"]["f1,none"] == 0.75
    assert told["results"]["asked-in-words"]["citation_recall,none"] == 0.25
    assert set(told["higher_is_better"]["asked-in-words"]) == {"f1", "citation_recall"}
    assert [one["metric"] for one in told["configs"]["asked-in-words"]["metric_list"]] == [
        "f1",
        "citation_recall",
    ]
    assert {task: found["effective"] for task, found in told["n-samples"].items()} == {
        "asked": 4,
        "asked-in-words": 2,
    }
    assert sorted(read_results(tmp_path / "harness").every, key=repr) == sorted(mixed.every, key=repr)


def test_the_harness_is_told_which_measures_are_better_low(mixed: Results, tmp_path: Path) -> None:
    """An answer without a label, and one that the judge could not grade, are no merit."""
    measures = {"accuracy": 1.0, "no_label": 0.0, "judged": 0.0, "judge_error": 1.0}
    labelled = replace(
        mixed, scores=tuple(replace(one, measures=measures) for one in mixed.scores if one.verdict is None)
    )
    files = write_results(labelled, tmp_path / "harness", "lm-eval")
    [summed] = [file for file in files if file.parent.name == "base" and file.suffix == ".json"]
    told = json.loads(summed.read_text(encoding="utf-8"))
    expected = {"accuracy": True, "no_label": False, "judged": True, "judge_error": False}
    assert told["higher_is_better"]["asked-in-words"] == expected
    assert {
        one["metric"]: one["higher_is_better"] for one in told["configs"]["asked-in-words"]["metric_list"]
    } == expected


def test_inspect_gets_calls_and_words_as_two_logs(mixed: Results, tmp_path: Path) -> None:
    """Each has its own counts, and every measure that any of its samples has."""
    files = write_results(mixed, tmp_path / "logs", "inspect")
    logs = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    found = {
        log["eval"]["task"]: (
            log["results"]["total_samples"],
            {one["name"]: one["metrics"]["mean"]["value"] for one in log["results"]["scores"]},
        )
        for log in logs
        if log["eval"]["model"] == "tunesmith/base"
    }
    assert found["my project-asked"][0] == 4
    assert found["my project-asked in words"] == (2, {"f1": 0.75, "citation_recall": 0.25})
    assert sorted(read_results(tmp_path / "logs").every, key=repr) == sorted(mixed.every, key=repr)


def _write(path: Path, *rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")


def _harness(folder: Path, right: Sequence[int]) -> None:
    """What lm-eval leaves of a run with two filters and a metric that is no share."""
    _write(
        folder / "model" / "results_2026-01-01T00-00-00.json",
        {
            "results": {"gsm8k": {"alias": "gsm8k", "exact_match,strict-match": 0.5}},
            "configs": {"gsm8k": {}},
            "versions": {"gsm8k": 3},
            "config": {"model": "hf", "model_args": "pretrained=x"},
            "model_name": "x",
            "date": 1767225600.0,
        },
    )
    _write(
        folder / "model" / "samples_gsm8k_2026-01-01T00-00-00.jsonl",
        *(
            {
                "doc_id": number,
                "doc": {"question": f"{number} + 1?", "answer": f"#### {number + 1}"},
                "target": f"{number + 1}",
                "arguments": {"gen_args_0": {"arg_0": "Q: ...", "arg_1": {}}},
                "resps": [["The answer is 7."]],
                "filtered_resps": ["7"],
                "filter": name,
                "metrics": ["exact_match", "length"],
                "exact_match": float(one),
                "length": 16,
            }
            for number, one in enumerate(right)
            for name in ("strict-match", "flexible-extract")
        ),
    )


def test_a_harness_run_is_read(tmp_path: Path) -> None:
    """Measures by metric and filter, questions and answers; what is no share is named."""
    _harness(tmp_path / "a", [1, 0, 0, 1])
    _harness(tmp_path / "b", [1, 1, 0, 1])
    first, second = read_results(tmp_path / "a"), read_results(tmp_path / "b")
    assert first.unread == {"length (not from 0 to 1)": 8}
    assert first.versions == {"task gsm8k": "3"}
    one = first.scores[0]
    assert (one.contender, one.set, one.answer.text) == ("x", "gsm8k", "7")
    assert one.measures == {"exact_match,strict-match": 1.0, "exact_match,flexible-extract": 1.0}
    assert first.questions[one.example].question == "0 + 1?"
    [row] = compare_measured(_measured(first), _measured(second)).rows
    assert (row.metric, row.first.value, row.second.value) == ("exact_match,strict-match", 0.5, 0.75)
    assert [change.question for change in row.won] == ["1 + 1?"]


def _log(scores: Sequence[Any], **more: Any) -> dict[str, Any]:
    """A log as inspect_ai writes it, two epochs a sample."""
    return {
        "version": 2,
        "status": "success",
        "eval": {"task": "arc", "model": "openai/x", "created": "2026-01-01T00:00:00+00:00", "packages": {}},
        "samples": [
            {
                "id": number // 2,
                "epoch": number % 2 + 1,
                "input": [{"role": "user", "content": [{"type": "text", "text": f"{number // 2}?"}]}],
                "target": ["a", "b"],
                "output": {"choices": [{"message": {"role": "assistant", "content": "A"}}], "time": 1.5},
                "scores": None if value is None else {"choice": {"value": value}},
            }
            for number, value in enumerate(scores)
        ],
    } | more


def test_an_inspect_log_is_read(tmp_path: Path) -> None:
    """Letters are numbers, epochs are means, parts of a score have its name; samples without a score are counted."""
    path = tmp_path / "log.json"
    _write(path, _log(["C", "I", "P", "C", None, None, {"f": 0.5, "words": "many"}, {"f": 1}]))
    found = read_results(path)
    assert [one.measures for one in found.scores] == [{"choice": 0.5}, {"choice": 0.75}, {"choice.f": 0.75}]
    assert found.unread == {"a sample without a score": 2, "choice.words (no number from 0 to 1)": 1}
    one = found.scores[0]
    assert (one.contender, one.set, one.answer.text, one.answer.seconds) == ("openai/x", "arc", "A", 1.5)
    assert found.questions[one.example].question == "0?"
    assert found.questions[one.example].answer == '["a", "b"]'
    _write(path, _log(["C", "C"], status="error"))
    assert read_results(path).unread == {"a log whose status is error": 1}


def test_what_cannot_be_compared_is_refused(results: Results, tmp_path: Path) -> None:
    """Files in no known form, without answers, twice the same, of a newer form, or changed; and a taken place."""
    path = tmp_path / "x.json"
    for document, said in (
        ({"a": 1}, "no form that is known"),
        (_log([]), "holds no samples"),
        ({"results": {"t": {}}, "configs": {}}, "is not beside"),
        ({"tunesmith": {"format": 99}, "scores": []}, "another form"),
        ({"tunesmith": {"format": 1}, "scores": [{"contender": "x"}]}, "Field required"),
    ):
        _write(path, document)
        with pytest.raises(DatasetError, match=said):
            read_results(path)
    _harness(tmp_path / "a", [1])
    (tmp_path / "a" / "other").mkdir()
    for file in (tmp_path / "a" / "model").iterdir():
        (tmp_path / "a" / "other" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(DatasetError, match="both hold x on gsm8k"):
        read_results(tmp_path / "a")
    with pytest.raises(UsageError, match="there already"):
        write_results(results, path, "json")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert not holds_results(empty)
    with pytest.raises(DatasetError, match="no results"):
        read_results(empty)


def test_unknown_parts_of_our_own_form_are_named(results: Results, tmp_path: Path) -> None:
    """A later version's addition is not dropped without a word."""
    path = tmp_path / "x.json"
    write_results(results, path, "json")
    told = json.loads(path.read_text(encoding="utf-8"))
    _write(path, told | {"mood": "good"})
    assert read_results(path).unread == {"mood": 1}
