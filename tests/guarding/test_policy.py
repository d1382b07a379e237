"""Policies: read, refused with all problems at once, made into rails, and tested by their own tests."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from tunesmith.artifacts import Store
from tunesmith.catalogue import Catalogue, Entry
from tunesmith.errors import ConfigError, UsageError
from tunesmith.guarding.policy import Policy, load_policy, template
from tunesmith.guarding.rails import Context, Where
from tunesmith.guards import check_policy, guard_of, try_policy
from tunesmith.records import Passage


def written(folder: Path, text: str) -> Path:
    """Return the path of a policy with this text."""
    path = folder / "policy.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_policy_that_comes_along_passes_its_own_tests(tmp_path: Path) -> None:
    """And every rail that is on in it has a test that it stops something."""
    path = written(tmp_path, template())
    trials = try_policy(path)
    assert [each.defect for each in trials if not each.passed] == []
    assert {each.rail for trial in trials for each in trial.outcome.findings} == {
        "input.injection",
        "input.secrets",
        "input.private",
        "input.words",
        "retrieval.injection",
        "output.private",
        "output.grounding",
    }


def test_what_is_commented_out_in_it_is_right_as_well(tmp_path: Path) -> None:
    """Each line that begins with `# [table]` or `# key =` is a setting that can be taken in."""
    settings = r"^# (?=\[[a-z_.]+\]|[a-z_]+ = (?!\"allow\"))"
    policy = load_policy(written(tmp_path, re.sub(settings, "", template(), flags=re.MULTILINE)))
    assert policy.tools.dry_run is not None
    assert policy.input.off_topic is not None
    assert policy.rate.requests_per_minute == 60


def test_all_problems_are_told_with_lines_and_nearest_names(tmp_path: Path) -> None:
    """Unknown tables, unknown keys and wrong values, each at its line."""
    text = """refusl = "x"
[input.injektion]
[output.private]
action = "stop"
[[test]]
text = "a"
[[test]]
where = "in"
text = "b"
"""
    with pytest.raises(ConfigError) as caught:
        load_policy(written(tmp_path, text))
    assert caught.value.message.split("\n")[1:] == [
        "  line 1: there is no 'refusl'; did you mean 'refusal'?",
        "  line 2: there is no 'input.injektion'; did you mean 'injection'?",
        "  line 4: output.private.action: it should be 'allow', 'redact', 'ask_again' or 'refuse'",
        "  line 8: test.2.where: it should be 'input', 'retrieval', 'output' or 'tools'",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = ", "is no TOML"),
        ('[input.injection]\nallow = ["("]', "is no regular expression"),
        ('[input.injection]\naction = "ask_again"', "'allow', 'redact' or 'refuse'"),
        ('[output.schema]\nfile = "x.json"\naction = "redact"', "'allow', 'ask_again' or 'refuse'"),
    ],
)
def test_a_wrong_policy_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """With what is wrong; only what is said can be asked again, and what is judged whole has no part to take out."""
    with pytest.raises(ConfigError, match=said):
        load_policy(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[output.calls]", "does not say what may be called"),
        ('[output.calls]\ncatalogue = "."', "nothing was collected there"),
        ('[output.schema]\nfile = "gone.json"', "cannot be read"),
        ('[output.schema]\nfile = "bad.json"', "no JSON schema"),
        ('[tools.arguments]\nfile = "list.json"', "no object of schemas"),
        ('[input.words]\nfiles = ["gone.txt"]', "cannot be read"),
        ('[input.private]\nkinds = ["shoe_size"]', "There are name, email"),
        ('[input.off_topic]\ncorpus = "rows.jsonl"', 'line 2 has no "question"'),
    ],
)
def test_what_a_policy_names_must_be_there(tmp_path: Path, text: str, said: str) -> None:
    """A file that is missing or wrong is an error before anything is served."""
    tmp_path.joinpath("bad.json").write_text('{"type": "shoe"}')
    tmp_path.joinpath("list.json").write_text("[]")
    tmp_path.joinpath("rows.jsonl").write_text('{"question": "a"}\n{"answer": "b"}\n')
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        guard_of(load_policy(path), tmp_path)
    assert said in str(caught.value)


def collected(folder: Path, name: str, catalogue: Catalogue, year: int = 2026) -> None:
    """Keep a catalogue in a project's folder as its first stage does, at the beginning of a year."""

    def build(draft: Path) -> None:
        draft.joinpath("catalogue.json").write_text(catalogue.to_json(), encoding="utf-8")

    store = Store(folder / ".tunesmith", clock=lambda: datetime(year, 1, 1, tzinfo=UTC))
    store.make("collect", name, settings={}, inputs=(), build=build)


def test_a_projects_folder_stands_for_its_newest_catalogue(tmp_path: Path) -> None:
    """As the store keeps it; what was collected before does not count."""
    for number in (1, 2):
        entry = Entry(f"box.f{number}", "function")
        collected(tmp_path, f"{3 - number}", Catalogue("box", str(number), (entry,)), 2024 + number)
    text = '[output.calls]\naction = "refuse"\ncatalogue = "."'
    guard = guard_of(load_policy(written(tmp_path, text)), tmp_path)
    old, new = (f"```python\nimport box\n\nbox.f{number}()\n```" for number in (1, 2))
    assert guard.look("output", new).action == "allow"
    assert guard.look("output", old).action == "refuse"


def test_each_table_makes_its_rail(tmp_path: Path) -> None:
    """In the order in which they look; an empty policy has none."""
    assert guard_of(Policy(), tmp_path).rails == ()
    tmp_path.joinpath("schema.json").write_text('{"type": "object"}')
    tmp_path.joinpath("tools.json").write_text(json.dumps({"find": {"type": "object"}}))
    tmp_path.joinpath("words.txt").write_text("shoe\n")
    collected(tmp_path, "1", Catalogue("box", "1", (Entry("box.f", "function"),)))
    text = """
    [input.length]
    [input.words]
    lists = []
    files = ["words.txt"]
    [retrieval.sources]
    allow = ["a*"]
    [output.refusals]
    [output.schema]
    file = "schema.json"
    [output.calls]
    catalogue = "."
    [output.grounding]
    [tools.names]
    allow = ["find"]
    [tools.arguments]
    file = "tools.json"
    [tools.dry_run]
    names = ["find"]
    """
    guard = guard_of(load_policy(written(tmp_path, text)), tmp_path)
    assert [rail.name for rail in guard.rails] == [
        "input.length", "input.words", "retrieval.sources", "output.refusals", "output.schema", "output.calls",
        "output.grounding", "tools.names", "tools.arguments", "tools.dry_run",
    ]  # fmt: skip
    assert guard.look("input", "a shoe").action == "refuse"


def test_a_failing_test_says_what_became_of_the_text(tmp_path: Path) -> None:
    """By its action, or by its rail."""
    text = """
    [input.length]
    most = 3
    [[test]]
    text = "long"
    [[test]]
    text = "long"
    action = "refuse"
    rail = "input.words"
    [[test]]
    text = "ok"
    """
    assert [each.defect for each in try_policy(written(tmp_path, text))] == [
        "allow was wanted, and it is refuse (refuse: input.length: it has 4 characters, of 3 at most)",
        "the rail input.words was wanted (refuse: input.length: it has 4 characters, of 3 at most)",
        "",
    ]


def test_a_policy_without_tests_is_not_tested(tmp_path: Path) -> None:
    """That is an error: nothing would be shown."""
    with pytest.raises(ConfigError, match="has no tests"):
        try_policy(written(tmp_path, "[input.length]"))


def test_texts_of_files_are_looked_at(tmp_path: Path) -> None:
    """JSON lines by question, text or the last user's message; other files by lines."""
    policy = written(tmp_path, "[input.length]\nmost = 3\n")
    rows = [
        {"question": "long"},
        {"text": "ok"},
        {"messages": [{"role": "user", "content": "longer"}, {"role": "assistant", "content": "x"}]},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    found = check_policy(policy, file, ["abcd"], "input")
    assert (found.texts, found.actions, found.rails) == (4, {"refuse": 3, "allow": 1}, {"input.length": 3})
    assert [(each.line, each.text) for each in found.found] == [(1, "long"), (3, "longer"), (4, "abcd")]
    with pytest.raises(UsageError, match="there is no text"):
        check_policy(policy, None, [], "input")


def test_lines_of_files_are_told_as_they_stand_there(tmp_path: Path) -> None:
    """JSON may hold separators of lines, and a message parts; empty lines are counted."""
    policy = written(tmp_path, "[input.length]\nmost = 3\n")
    parts = [{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]
    rows = [{"text": "a\u2028bcd"}, {"messages": [{"role": "user", "content": parts}]}]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    found = check_policy(policy, file, ["abcd"], "input")
    assert [(each.line, each.text) for each in found.found] == [
        (1, "a\u2028bcd"),
        (3, "in parts"),
        (4, "abcd"),
    ]
    file.write_text('\n{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}')
    with pytest.raises(ConfigError, match="line 2 has no"):
        check_policy(policy, file, [], "input")


def test_reasons_repeat_nothing_private(tmp_path: Path) -> None:
    """What a rail quotes of an answer is told as the answer may be."""
    (tmp_path / "answer.json").write_text('{"properties": {"a": {"type": "integer"}}}')
    (tmp_path / "tools.json").write_text('{"find": {"properties": {"who": {"type": "integer"}}}}')
    grounding = "[output.grounding]\nleast = 0.9\n"
    schema = '[output.schema]\nfile = "answer.json"\n'
    arguments = '[tools.arguments]\nfile = "tools.json"\n'
    mail = "k.lindqvist@nordhaus-bau.se"
    context = Context(passages=(Passage("a", "Nothing.", 1.0),))
    long = "Whoever wants to know more of rockets and of planets writes a letter to"
    told = []
    for where, rail, said in (
        ("output", grounding, f"Rockets are built by {mail} alone."),
        ("output", grounding, f"{long} {mail}."),
        ("output", schema, json.dumps({"a": mail})),
        ("tools", arguments, json.dumps({"name": "find", "arguments": {"who": mail}})),
    ):
        guard = guard_of(load_policy(written(tmp_path, f"{rail}[output.private]\n")), tmp_path)
        told.append(guard.look(cast("Where", where), said, context).findings[0].reason)
    assert told == [
        "not in the retrieved text: 'Rockets are built by [EMAIL] alone.' (0% of its words are)",
        f"not in the retrieved text: '{long} [EMAIL].' (0% of its words are)",
        'it does not fit the schema: a: "[EMAIL]" is not of type "integer"',
        'the arguments of \'find\' do not fit: who: "[EMAIL]" is not of type "integer"',
    ]
