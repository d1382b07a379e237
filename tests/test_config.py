"""tunesmith.toml: read whole, refused with every problem in it, written with what is true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tunesmith import config as module
from tunesmith.config import FILE_NAME, Config, find_project, load, template
from tunesmith.curating.curate import CurateSettings
from tunesmith.errors import ConfigError, UsageError
from tunesmith.evaluating.evaluate import EvaluateSettings
from tunesmith.evaluating.names import USUAL

SMALL = '[project]\nname = "x"\n[collect]\nsources = ["docs"]\n'


def written(folder: Path, text: str) -> Path:
    """Write a tunesmith.toml and return its path."""
    path = folder / FILE_NAME
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str) -> list[str]:
    """Return the lines of the error for a file."""
    with pytest.raises(ConfigError) as caught:
        load(written(folder, text))
    assert caught.value.exit_code == 2
    assert caught.value.hint is not None
    return caught.value.message.replace(str(folder / FILE_NAME), "FILE").splitlines()


def test_small_file_has_the_defaults(tmp_path: Path) -> None:
    """A name and a source are enough; every stage then has its own defaults."""
    path = written(tmp_path, SMALL)
    assert load(path) == Config(path=path, name="x", sources=("docs",))
    assert load(path).folder == tmp_path


def test_values_reach_their_stage(tmp_path: Path) -> None:
    """What config reads itself and what a stage reads may stand in one table, and each gets its own."""
    text = SMALL + '[curate]\nasked = "asked.jsonl"\nseed = 7\n[evaluate]\nstop = ["\\n\\n"]\n'
    loaded = load(written(tmp_path, text))
    assert loaded.asked == "asked.jsonl"
    assert loaded.curate == CurateSettings(seed=7)
    assert loaded.evaluate == EvaluateSettings(stop=("\n\n",))


def test_an_adapter_is_a_contender_of_its_name(tmp_path: Path) -> None:
    """Where no contender names it, it is asked alone and with the tuned retriever; where one does, only as named."""
    adapters = '[evaluate]\nadapters = { mine = "path:adapters/mine" }\n'

    loaded = load(written(tmp_path, SMALL + adapters))
    assert loaded.adapters == {"mine": "path:adapters/mine"}
    assert loaded.contenders == ("mine", "mine+tuned_retrieval", *USUAL)

    named = 'contenders = ["base", "mine+few_shot"]\n'
    assert load(written(tmp_path, SMALL + adapters + named)).contenders == ("base", "mine+few_shot")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            'adapters = { tuned = "path:x" }',
            "'tuned' cannot be an adapter's name: it is a part's already",
        ),
        ('adapters = { My-Own = "path:x" }', "'My-Own' cannot be an adapter's name"),
        (
            'adapters = { mine = "hf:org/name" }',
            "mine = 'hf:org/name' is no folder of an adapter: write path:FOLDER",
        ),
        (
            'adapters = { mine = "path:x" }\ncontenders = ["tuned+mine"]',
            "'tuned+mine' asks for tuned and mine at once",
        ),
        ('contenders = ["mine"]', "'mine' names no contender: 'mine' is not understood there"),
    ],
)
def test_adapters_that_cannot_be_are_refused(tmp_path: Path, keys: str, message: str) -> None:
    """A name must be one, an address a folder, and a contender has one kind of weights."""
    assert any(message in line for line in refusal(tmp_path, f"{SMALL}[evaluate]\n{keys}\n"))


def test_unknown_key_is_named_with_the_nearest(tmp_path: Path) -> None:
    """A mistyped key is refused with its line and the key that was meant."""
    assert refusal(tmp_path, SMALL + "[evaluate]\nbatchsize = 4\n") == [
        "FILE, line 6: [evaluate] has no key 'batchsize'; did you mean 'batch_size'?"
    ]


def test_key_in_the_wrong_table_is_sent_home(tmp_path: Path) -> None:
    """A real key in another table's place is told where it belongs."""
    assert refusal(tmp_path, SMALL + "teacher = 'openai:m@http://x'\n") == [
        "FILE, line 5: [collect] has no key 'teacher'; it belongs to [generate]"
    ]


def test_unknown_table_is_named_with_the_nearest(tmp_path: Path) -> None:
    """A mistyped table is refused with its line and the table that was meant."""
    assert refusal(tmp_path, SMALL + "\n[evalute]\n") == [
        "FILE, line 6: there is no table [evalute]; did you mean 'evaluate'?"
    ]


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    """Several problems are one error, in the order of the file's lines."""
    text = """[project]
nam = "x"

[collect]
sources = [
  "a = 1",  # a list may run over lines, and its strings may look like keys
]
[curate]
unseen_share = 0.9
seed = "7"
accept_leaks = "one"
[xyz]
"""
    assert refusal(tmp_path, text) == [
        "FILE has 6 problems:",
        "  line 1: [project] needs a value for 'name'",
        "  line 2: [project] has no key 'nam'; did you mean 'name'?",
        "  line 9: [curate] unseen_share = 0.9: it should be less than or equal to 0.5",
        '  line 10: [curate] seed = "7": it should be a valid integer',
        '  line 11: [curate] accept_leaks = "one": it should be a valid array',
        f"  line 12: there is no table [xyz]; the tables are {', '.join(module._TABLES)}",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "  [collect] needs a value for 'sources'"),
        ("project = 1\n", "  line 1: project must be a table: write [project] on a line of its own"),
        ("project.nam = 1\n", "  line 1: [project] has no key 'nam'; did you mean 'name'?"),
        ("[collect]\nsources = []\n", "  line 2: [collect] sources = []: it should have at least 1 item"),
        ("[collect]\nsources = [1]\n", "  line 2: [collect] sources.0 = 1: it should be a valid string"),
        (
            "[curate]\nseed = 2026-11-01\n",
            '  line 2: [curate] seed = "2026-11-01": it should be a valid integer',
        ),
        ("[curate]\nvalid_share = nan\n", "  line 2: [curate] valid_share = NaN: it should be"),
    ],
)
def test_shapes_of_trouble(tmp_path: Path, text: str, message: str) -> None:
    """Missing, wrongly shaped and odd values are each named with what is allowed."""
    assert any(line.startswith(message) for line in refusal(tmp_path, text))


def test_what_a_service_chooses_itself_is_refused(tmp_path: Path) -> None:
    """Of a remote base, local training's settings and constrained contenders are named, each with its line."""
    text = SMALL + (
        '[train]\nbase = "openai:m"\nepochs = 3\nrank = 8\n'
        '[evaluate]\ncontenders = ["base", "tuned+constrained"]\n'
    )
    assert refusal(tmp_path, text) == [
        "FILE has 2 problems:",
        "  line 8: [train] rank: the service of openai:m chooses that itself; leave it out",
        "  line 10: [evaluate] contenders: tuned+constrained needs weights, "
        "which the service of openai:m keeps; leave it out",
    ]


@pytest.mark.parametrize(
    ("name", "means", "missing"),
    [
        ("json", 'json_schema = "a.json"', "[evaluate] json_schema"),
        ("tuned+pinecone", '[retrieve]\npinecone_index = "docs"', "[retrieve] pinecone_index"),
        (
            "retrieval+reranked",
            '[retrieve]\nreranker = "path:r"',
            "[retrieve] reranker, as the base is elsewhere",
        ),
    ],
)
def test_a_part_that_lacks_its_setting_is_named(tmp_path: Path, name: str, means: str, missing: str) -> None:
    """With its line; with the setting it is taken."""
    base = '[train]\nbase = "openai:m@http://localhost/v1"\n' if "reranked" in name else ""
    text = f'{SMALL}{base}[evaluate]\ncontenders = ["base", "{name}"]\n'
    part = name.rpartition("+")[2]
    [told] = refusal(tmp_path, text)
    assert told.endswith(
        f"[evaluate] contenders: {name} has {part} and nothing says with what: set {missing}"
    )
    assert load(written(tmp_path, f"{text}{means}\n")).contenders == ("base", name)


def test_the_usual_contenders_of_a_remote_base_need_no_weights(tmp_path: Path) -> None:
    """Where none are named, those are left out that a service cannot be."""
    loaded = load(written(tmp_path, SMALL + '[train]\nbase = "ft:gpt-4o:org::1"\n'))
    assert loaded.contenders == tuple(name for name in USUAL if not name.endswith("constrained"))


def test_requests_of_an_api_have_no_constrained_contenders(tmp_path: Path) -> None:
    """With an openapi: source they are left out of the usual ones, and refused where they are named."""
    text = SMALL.replace('sources = ["', 'sources = ["openapi:pets.yaml", "')
    assert load(written(tmp_path, text)).contenders == tuple(
        name for name in USUAL if "constrained" not in name
    )
    told = refusal(tmp_path, f'{text}[evaluate]\ncontenders = ["base", "base+constrained"]\n')
    assert told[0].endswith(
        "base+constrained cannot be of openapi: sources, which have no grammar; leave it out"
    )


def test_broken_toml_has_line_and_column(tmp_path: Path) -> None:
    """A file that is not TOML is refused with the place."""
    (line,) = refusal(tmp_path, "[project]\nname = x\n")
    assert line == "FILE is not TOML: Invalid value (at line 2, column 8)."


def test_file_that_is_not_text(tmp_path: Path) -> None:
    """A file that is not UTF-8 is refused with the byte's place; a byte order mark is no trouble."""
    path = tmp_path / FILE_NAME
    path.write_bytes(b"[project]\nname = '\xff'")
    with pytest.raises(ConfigError, match="is not UTF-8 text: byte 18 cannot be read"):
        load(path)
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.encode())
    assert load(path).name == "x"


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is a wrong use, with the way to make one."""
    with pytest.raises(UsageError, match="There is no file") as caught:
        load(tmp_path / "other.toml")
    assert caught.value.exit_code == 2
    assert "tunesmith new" in (caught.value.hint or "")


def test_project_is_found_from_below(tmp_path: Path) -> None:
    """The nearest folder above with a tunesmith.toml is the project."""
    written(tmp_path, SMALL)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_project(below) == tmp_path
    assert find_project(tmp_path) == tmp_path


def test_no_project_above(tmp_path: Path) -> None:
    """Without a tunesmith.toml the error says how to make one."""
    with pytest.raises(UsageError, match=r"There is no tunesmith\.toml") as caught:
        find_project(tmp_path)
    assert "tunesmith new" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("tables", "key"),
    [
        ("[report]\nusd_per_million = [0.5, 1.5]\n", "usd_per_million: it is not read, as the base is here"),
        (
            '[report]\nusd_per_hour = 1.0\n[train]\nbase = "openai:m"\n',
            "usd_per_hour: it is not read, as openai:m answers for tokens",
        ),
    ],
)
def test_a_price_that_no_bill_reads_is_refused(tables: str, key: str, tmp_path: Path) -> None:
    """A service's tokens where the base is here, and a machine's hours alone where it is not."""
    [line] = refusal(tmp_path, SMALL + tables)
    assert line.startswith(f"FILE, line 6: [report] {key}")


def test_a_verdict_of_a_judge_needs_one(tmp_path: Path) -> None:
    """Said before anything is trained, not when the report is written."""
    judged = '[report]\nmeasure = "judged"\n'
    assert refusal(tmp_path, SMALL + judged) == [
        'FILE, line 6: [report] measure = "judged" and nothing says by whom: set [evaluate] grader'
    ]
    assert load(written(tmp_path, SMALL + judged + '[evaluate]\ngrader = "smollm2"\n')).grader == "smollm2"


def test_prices_that_a_bill_reads_are_taken(tmp_path: Path) -> None:
    """Both at a service: the machine tunes the encoder."""
    prices = "[report]\nusd_per_hour = 1.0\n"
    assert load(written(tmp_path, SMALL + prices)).report.usd_per_hour == 1.0
    prices += 'usd_per_million = [0.5, 1.5]\n[train]\nbase = "openai:m"\n'
    assert load(written(tmp_path, SMALL + prices)).report.usd_per_million == (0.5, 1.5)


def test_template_loads_and_shows_the_defaults(tmp_path: Path) -> None:
    """What `tunesmith new` writes gives the defaults, and so does every line of it made active."""
    text = template("shop", ["python:networkx", "../docs"])
    path = written(tmp_path, text)
    expected = Config(path=path, name="shop", sources=("python:networkx", "../docs"))
    assert load(path) == expected
    active = [line for line in text.splitlines() if "# for example: " not in line]
    written(tmp_path, "\n".join(re.sub(r"^# (\w+ = )", r"\1", line) for line in active))
    assert load(path) == expected


def test_template_examples_are_real(tmp_path: Path) -> None:
    """The lines whose default cannot be written down show a value that the key takes."""
    text = re.sub(r"^# (\w+ = )", r"\1", template("x", ["y"]), flags=re.MULTILINE)
    head, report, rest = text.partition("[report]\n")
    # A service's price is refused where the base is here, as the template's is.
    text = head + report + re.sub(r"^usd_per_million", r"# \g<0>", rest, flags=re.MULTILINE)
    assert load(written(tmp_path, text)).teacher == "openai:MODEL@http://localhost:8000/v1"


def test_template_explains_every_key() -> None:
    """Each key of each table stands in the template once, with a word on what it does; nothing else does."""
    shown: dict[str, list[str]] = {}
    for line in template("x", ["y"]).splitlines()[1:]:
        if header := re.match(r"\[(\w+)\]$", line):
            keys = shown.setdefault(header[1], [])
        elif line:
            key = re.match(r"(?:# )?(\w+) = .+  # (?:for example: )?\S.{8,}", line)
            assert key is not None, line
            keys.append(key[1])
    assert shown == {table: list(module._fields(table)) for table in module._TABLES}
    for name, why in module._EXPLAINED.items():
        assert set(why) <= set(shown[name])


def test_every_settings_class_is_strict_and_frozen() -> None:
    """A stage's settings refuse unknown keys and never change."""
    for parts in module._TABLES.values():
        for part in parts:
            assert issubclass(part, BaseModel)
            assert (part.model_config["extra"], part.model_config["frozen"]) == ("forbid", True)


@given(name=st.text(min_size=1), sources=st.lists(st.text(), min_size=1))
def test_any_name_and_source_survive_the_template(
    tmp_path_factory: pytest.TempPathFactory, name: str, sources: list[str]
) -> None:
    """A name and sources with quotes, line breaks or # come back as they were."""
    loaded = load(written(tmp_path_factory.mktemp("project"), template(name, sources)))
    assert (loaded.name, loaded.sources) == (name, tuple(sources))


def test_config_is_light() -> None:
    """Reading a config loads no model library."""
    heavy = "{'torch', 'transformers', 'faiss', 'sklearn', 'scipy', 'altair'}"
    code = f"import sys, tunesmith.config; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "set()\n"
