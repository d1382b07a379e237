"""Graders over the wire, with the real SDK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI

from tunesmith.serving.graders import formula, templates
from tunesmith.serving.graders.similarity import METRICS
from tunesmith.serving.options import Options

from .running import serving

ITEM = {"question": "who?", "answer": "Ada", "tags": [{"name": "x"}], "n": 3}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, tiny: str, tiny_encoder: str) -> Iterator[OpenAI]:
    """A client of a server with a tiny model and a tiny encoder."""
    models = {"tiny": tiny, "text-embedding-3-large": tiny_encoder}
    with serving(tmp_path_factory.mktemp("graders") / "home", Options(models=models)) as running:
        yield OpenAI(
            base_url=running.url, api_key="any", max_retries=0, timeout=60, _strict_response_validation=True
        )


def run(client: OpenAI, grader: dict[str, Any], sample: str = "Ada", **more: Any) -> Any:
    """Grade a sample."""
    whole: Any = {"name": "g"} | grader
    return client.fine_tuning.alpha.graders.run(
        **{"grader": whole, "model_sample": sample, "item": ITEM} | more
    )


@pytest.mark.parametrize(
    ("operation", "sample", "score"),
    [
        ("eq", "Ada", 1), ("eq", "ada", 0), ("ne", "Eve", 1), ("ne", "Ada", 0), ("like", "It was Ada.", 1),
        ("like", "it was ada", 0), ("ilike", "it was ada", 1), ("ilike", "Ad", 0),
    ],
)  # fmt: skip
def test_texts_are_compared(client: OpenAI, operation: str, sample: str, score: int) -> None:
    grader = {"type": "string_check", "operation": operation}
    grader |= {"input": "{{ sample.output_text }}", "reference": "{{item.answer}}"}
    graded = run(client, grader, sample)
    assert (graded.reward, graded.metadata.name, graded.metadata.type) == (score, "g", "string_check")


@pytest.mark.parametrize("metric", [*METRICS, "cosine"])
def test_likeness_is_one_for_the_same_and_less_for_other_words(client: OpenAI, metric: str) -> None:
    grader = {"type": "text_similarity", "evaluation_metric": metric}
    grader |= {"input": "{{sample.output_text}}", "reference": "the cat sat on the warm mat"}
    same = run(client, grader, "the cat sat on the warm mat").reward
    near = run(client, grader, "the cat sat on the cold mat").reward
    far = run(client, grader, "every soup needs salt").reward
    # METEOR charges a little for its one chunk of matches.
    assert same == pytest.approx(1, abs=0.01)
    assert 1 > near >= 0
    assert near > far or metric == "rouge_5"
    assert run(client, grader, "").reward <= 1


def test_known_likenesses() -> None:
    """By hand: 5 of 6 and 5 of 7 words in common; the longest common run of two word lists."""
    said, wanted = "the cat is on the mat", "the cat sat there on the mat"
    assert METRICS["rouge_1"](said, wanted) == pytest.approx(2 * 5 / 13)
    assert METRICS["rouge_2"](said, wanted) == pytest.approx(2 * 3 / 11)
    assert METRICS["rouge_l"](said, wanted) == pytest.approx(2 * 5 / 13)
    assert METRICS["fuzzy_match"]("abcd", "abxd") == pytest.approx(0.75)


def test_python_grades_in_a_sandbox(client: OpenAI) -> None:
    body = "return len(sample['output_text']) / item['n'] + (sample['output_json'] or 0)"
    source = f"def grade(sample, item):\n    {body}"
    assert run(client, {"type": "python", "source": source}).reward == 1.0
    assert run(client, {"type": "python", "source": source}, "12").reward == pytest.approx(2 / 3 + 12)


@pytest.mark.parametrize(
    ("body", "flag", "said"),
    [
        ("return 'good'", "python_grader_runtime_error", "no number"),
        ("return True", "python_grader_runtime_error", "no number"),
        ("return open('/etc/passwd').read()", "python_grader_runtime_error", "PermissionError"),
        ("return item['nothing']", "python_grader_runtime_error", "KeyError: 'nothing' (line 2)"),
        ("import os; os._exit(1)", "python_grader_server_error", "ended without a result"),
    ],
)
def test_a_function_that_fails_scores_nothing_and_says_why(
    client: OpenAI, body: str, flag: str, said: str
) -> None:
    graded = run(client, {"type": "python", "source": f"def grade(sample, item):\n    {body}"})
    assert graded.reward == 0
    errors = graded.metadata.errors.model_dump(by_alias=True)
    assert [name for name, value in errors.items() if value is True] == [flag]
    assert said in str(errors)


def test_a_model_gives_a_number_in_its_range(client: OpenAI) -> None:
    asked = [{"role": "user", "content": "Rate {{sample.output_text}} for {{ item.tags[0].name }}."}]
    grader = {"type": "score_model", "model": "tiny", "range": [2, 5], "input": asked}
    graded = run(client, grader)
    assert 2 <= graded.reward <= 5
    assert graded.metadata.sampled_model_name == "tiny"
    assert graded.api_model_grader_token_usage_per_model["tiny"] == graded.metadata.token_usage > 0
    missing = run(client, grader | {"model": "nobody"})
    assert missing.metadata.errors.api_model_grader_server_error
    assert "nobody" in missing.metadata.errors.api_model_grader_server_error_details
    cut = run(client, grader | {"sampling_params": {"max_completions_tokens": 2}})
    assert cut.metadata.errors.api_model_grader_parse_error


def test_a_formula_joins_graders(client: OpenAI) -> None:
    check = {"type": "string_check", "name": "same", "operation": "eq", "input": "{{sample.output_text}}"}
    graders = {"same": check | {"reference": "{{item.answer}}"}, "other": check | {"reference": "Eve"}}
    grader = {"type": "multi", "graders": graders, "calculate_output": "0.25 * same + max(other, 0.5) ** 2"}
    graded = run(client, grader)
    assert graded.reward == 0.5
    assert graded.sub_rewards == {"same": 1, "other": 0}
    broken = run(client, grader | {"calculate_output": "same / other"})
    assert (broken.reward, broken.metadata.errors.formula_parse_error) == (0, True)


def test_a_gap_that_cannot_be_filled_is_named(client: OpenAI) -> None:
    grader = {"type": "string_check", "operation": "eq", "input": "{{item.nothing}}", "reference": "x"}
    graded = run(client, grader)
    assert graded.metadata.errors.invalid_variable_error
    assert (
        "has no 'nothing'; there are question" in graded.metadata.errors.api_model_grader_server_error_details
    )


@pytest.mark.parametrize(
    ("grader", "said"),
    [
        ({"type": "python", "source": "def grade(:"}, "the source is no Python"),
        ({"type": "python", "source": "x = 1"}, "defines no function grade"),
        ({"type": "string_check", "operation": "eq", "input": "{{env.KEY}}", "reference": ""}, "neither item"),
        (
            {"type": "score_model", "model": "m", "input": [{"role": "user", "content": "x"}], "range": [1, 0]},
            "must rise",
        ),
        (
            {"type": "multi", "calculate_output": "__import__('os')",
             "graders": {"a": {"type": "python", "name": "a", "source": "def grade(s, i): return 1"}}},
            "the formula has",
        ),
    ],
)  # fmt: skip
def test_a_grader_that_could_grade_nothing_is_refused(client: OpenAI, grader: Any, said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        client.fine_tuning.alpha.graders.validate(grader={"name": "g"} | grader)


def test_a_good_grader_is_shown_as_it_was(client: OpenAI) -> None:
    grader: Any = {"type": "python", "name": "g", "source": "def grade(sample, item):\n    return 1"}
    found = client.fine_tuning.alpha.graders.validate(grader=grader)
    assert found.grader is not None
    assert found.grader.model_dump(exclude_none=True) == grader


@given(st.text(max_size=60))
def test_any_formula_has_a_value_or_a_fault(text: str) -> None:
    try:
        assert isinstance(formula.value_of(text, {"a": 1.0, "b": 0.0}), float)
    except formula.FormulaError as error:
        assert error.message


@given(st.text(max_size=60))
def test_any_template_is_filled_or_a_fault(text: str) -> None:
    for whole in (text, f"{{{{item.{text}}}}}", f"{{{{{text}}}}}"):
        try:
            assert isinstance(templates.fill(whole, {"item": {"a": "b"}, "sample": {}}), str)
        except templates.TemplateError as error:
            assert error.message


@pytest.mark.parametrize(
    "formula_text", ["9 ** 9 ** 9 ** 9", "exp(10000)", "1 / 0", "log(0 - 1)", "a.b", "[a]", "a if a else b"]
)
def test_what_has_no_value_is_a_fault(formula_text: str) -> None:
    with pytest.raises(formula.FormulaError):
        formula.value_of(formula_text, {"a": 1.0, "b": 2.0})
