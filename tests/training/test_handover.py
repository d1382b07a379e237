"""Folders for other trainers: the rows they read, what became of each setting, what is refused."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import PreTrainedTokenizerBase

from tunesmith.errors import TrainingError, UsageError
from tunesmith.models.local import text_ids
from tunesmith.records import Conversation, Message
from tunesmith.training.handover import TARGETS, hand_over
from tunesmith.training.render import render
from tunesmith.training.settings import TrainSettings

CONFIGS = {"axolotl": "axolotl.yaml", "litgpt": "litgpt.yaml", "trl": "trl.yaml", "unsloth": "train.py"}
CHANGES: dict[str, Any] = {
    "base": "hf:org/name",
    "method": "qlora",
    "epochs": 3,
    "weight_decay": 0.1,
    "batch_size": 5,
    "learning_rate": 1e-4,
    "rank": 4,
    "alpha": 8.0,
    "top_layers": 1,
    "warmup_share": 0.5,
    "clip": 0.5,
    "max_length": 200,
    "evaluate_every": 7,
    "patience": 5,
    "seed": 9,
}
IN_THE_ROWS = {"objective", "beta", "examples", "retrieved_share", "doubt", "passages", "quotes", "too_long"}
NOT_TOLD = {"litgpt": {"top_layers", "clip", "patience"}, "trl": {"patience"}}
TWO_TURNS: Conversation = (
    Message("system", "You help."),
    Message("user", "where is it?"),
    Message("assistant", "here"),
    Message("user", "and this?"),
    Message("assistant", "there"),
)


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def written(
    target: str, rows: tuple[Conversation, ...], model: Path, out: Path, **settings: Any
) -> tuple[str, str]:
    """Hand over and return the tool's config and the README."""
    told = TrainSettings(**{"base": f"path:{model}", "batch_size": 2, **settings})
    folder = hand_over(target, rows, rows[:2], told, base=model, out=out)
    return (
        (folder / CONFIGS[target]).read_text(encoding="utf-8"),
        (folder / "README.md").read_text(encoding="utf-8"),
    )


# --- the rows


@pytest.mark.parametrize("target", TARGETS)
def test_every_folder_has_the_conversations_for_people(
    target: str, places: tuple[Conversation, ...], chat_folder: Path, tmp_path: Path
) -> None:
    """Both files hold the messages word for word, in order."""
    written(target, places, chat_folder, tmp_path / "out")

    for name, expected in (("train", places), ("valid", places[:2])):
        found = [
            tuple(Message(**message) for message in row["messages"])
            for row in lines(tmp_path / "out" / f"{name}.jsonl")
        ]
        assert found == list(expected)


@pytest.mark.parametrize("target", ["trl", "unsloth"])
def test_rows_of_tokens_are_our_own_rendering(
    target: str, chat_tokenizer: PreTrainedTokenizerBase, chat_folder: Path, tmp_path: Path
) -> None:
    """Ids are those of `render`, and a label stands exactly where its mask does."""
    written(target, (TWO_TURNS,), chat_folder, tmp_path / "out")

    [row] = lines(tmp_path / "out" / "tokens" / "train.jsonl")
    expected = render(chat_tokenizer, TWO_TURNS)
    assert row["input_ids"] == list(expected.ids)
    assert row["labels"] == [
        token if labelled else -100 for token, labelled in zip(expected.ids, expected.mask, strict=True)
    ]


def test_rows_of_instructions_are_read_as_our_own_rendering(
    chat_tokenizer: PreTrainedTokenizerBase, chat_folder: Path, tmp_path: Path
) -> None:
    """Each answer is a row: its prompt's ids, its own and the end of turn are those of `render`."""
    _, readme = written("litgpt", (TWO_TURNS,), chat_folder, tmp_path / "out", epochs=2)

    rows = lines(tmp_path / "out" / "data" / "train.jsonl")
    assert [row["output"] for row in rows] == ["here", "there"]
    assert "reads other tokens" not in readme
    for row, conversation in zip(rows, (TWO_TURNS[:3], TWO_TURNS), strict=True):
        read = (*text_ids(chat_tokenizer, row["instruction"]), *text_ids(chat_tokenizer, row["output"]))
        assert (*read, chat_tokenizer.eos_token_id) == render(chat_tokenizer, conversation).ids


def test_turns_that_are_read_otherwise_are_counted(chat_folder: Path, tmp_path: Path) -> None:
    """Where an earlier answer's first line break is read with the prompt's last one, the README says so."""
    broken = (*TWO_TURNS[:2], Message("assistant", "\n  here"), *TWO_TURNS[3:])
    _, readme = written("litgpt", (broken, TWO_TURNS), chat_folder, tmp_path / "out", epochs=2)
    assert "LitGPT reads other tokens than Tunesmith in 1 turns that follow another answer." in readme


def test_a_tokenizer_that_writes_bos_itself_is_not_given_one(
    places: tuple[Conversation, ...],
    chat_folder: Path,
    chat_tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
) -> None:
    """Where the tokenizer puts BOS before a text, the prompt's own is left out: read, there is one."""
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    base = tmp_path / "base"
    base.mkdir()
    for file in chat_folder.iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    backend = Tokenizer.from_file(str(base / "tokenizer.json"))
    backend.post_processor = TemplateProcessing(
        single="<|im_start|> $0", special_tokens=[("<|im_start|>", 0)]
    )
    backend.save(str(base / "tokenizer.json"))

    written("litgpt", places, base, tmp_path / "out")

    prompt = lines(tmp_path / "out" / "data" / "train.jsonl")[0]["instruction"]
    assert (
        tuple(backend.encode(prompt).ids)
        == render(chat_tokenizer, places[0]).ids[: len(backend.encode(prompt).ids)]
    )


def test_rows_that_are_cut_are_counted(
    chat_tokenizer: PreTrainedTokenizerBase, chat_folder: Path, tmp_path: Path
) -> None:
    """The README says how many conversations are longer than max_length; no token behind it is written."""
    length = len(render(chat_tokenizer, TWO_TURNS).ids)

    _, whole = written("trl", (TWO_TURNS,), chat_folder, tmp_path / "whole", max_length=length)
    _, cut = written(
        "trl", (TWO_TURNS,), chat_folder, tmp_path / "cut", max_length=length - 2, too_long="cut"
    )

    assert "cut there" not in whole
    assert f"1 of them are longer than {length - 2} tokens and cut there." in cut
    [row] = lines(tmp_path / "cut" / "tokens" / "train.jsonl")
    assert len(row["input_ids"]) == len(row["labels"]) == length - 2


def test_rows_that_are_dropped_are_in_no_file(
    places: tuple[Conversation, ...],
    chat_tokenizer: PreTrainedTokenizerBase,
    chat_folder: Path,
    tmp_path: Path,
) -> None:
    """With too_long = "drop" they are left out of all files alike, and counted."""
    most = max(len(render(chat_tokenizer, place).ids) for place in places)

    _, readme = written(
        "litgpt", (*places, TWO_TURNS), chat_folder, tmp_path / "out", max_length=most, too_long="drop"
    )

    assert f"1 more were longer than {most} tokens and are left out." in readme
    counts = [len(lines(tmp_path / "out" / name)) for name in ("train.jsonl", "data/train.jsonl")]
    assert counts == [len(places), len(places)]


# --- the settings


@pytest.mark.parametrize("target", TARGETS)
def test_the_readme_says_of_every_setting_what_became_of_it(
    target: str, places: tuple[Conversation, ...], chat_folder: Path, tmp_path: Path
) -> None:
    """Each setting stands once: in the table, or under what is not translated with the reason."""
    _, readme = written(target, places, chat_folder, tmp_path / "out")

    table, _, untold = readme.partition("## Not translated")
    told = {name for name in TrainSettings.model_fields if f"\n| `{name}` |" in table}
    not_told = {name for name in TrainSettings.model_fields if f"\n- `{name}` (" in untold}
    assert told | not_told == set(TrainSettings.model_fields)
    assert told & not_told == set()
    assert not_told & (set(CHANGES) | IN_THE_ROWS) == NOT_TOLD.get(target, set())


@pytest.mark.parametrize(
    ("target", "setting"),
    [(target, name) for target in TARGETS for name in CHANGES if name not in NOT_TOLD.get(target, set())],
)
def test_a_setting_that_is_told_changes_the_config(
    target: str, setting: str, places: tuple[Conversation, ...], chat_folder: Path, tmp_path: Path
) -> None:
    """Another value makes another config."""
    before, _ = written(target, places, chat_folder, tmp_path / "before")
    after, _ = written(target, places, chat_folder, tmp_path / "after", **{setting: CHANGES[setting]})
    assert before != after


def test_steps_of_the_warm_up_are_counted_as_in_our_own_loop(
    places: tuple[Conversation, ...], chat_folder: Path, tmp_path: Path
) -> None:
    """Ten rows in batches of four are three steps an epoch, the last of two rows."""
    config, _ = written(
        "axolotl", places, chat_folder, tmp_path / "out", batch_size=4, epochs=4, warmup_share=0.5
    )
    assert yaml.safe_load(config)["warmup_steps"] == 6


def test_the_layers_are_those_of_our_own_training(
    places: tuple[Conversation, ...], chat_folder: Path, tmp_path: Path
) -> None:
    """All linear layers of the top block, for PEFT by names and numbers, or by a pattern over whole names."""
    config, _ = written("axolotl", places, chat_folder, tmp_path / "axolotl", top_layers=1)
    loaded = yaml.safe_load(config)
    linear = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert (loaded["lora_target_modules"], loaded["peft_layers_to_transform"]) == (linear, [1])

    config, _ = written("trl", places, chat_folder, tmp_path / "trl", top_layers=1)
    assert yaml.safe_load(config)["lora_target_modules"] == [rf".*\.(?:1)\.(?:.*\.)?(?:{'|'.join(linear)})"]


@pytest.mark.parametrize(
    ("target", "keys"),
    [
        ("axolotl", ("base_model", "revision_of_model")),
        ("trl", ("model_name_or_path", "model_revision")),
    ],
)
def test_a_model_of_the_hub_is_named_and_not_where_it_is_cached(
    target: str,
    keys: tuple[str, str],
    places: tuple[Conversation, ...],
    chat_folder: Path,
    tmp_path: Path,
) -> None:
    """The tool fetches it itself, in the same revision; a folder is named by its whole path."""
    config, readme = written(target, places, chat_folder, tmp_path / "hub", base="hf:org/name@v1")
    loaded = yaml.safe_load(config)
    assert tuple(loaded[key] for key in keys) == ("org/name", "v1")
    assert str(chat_folder) not in readme

    config, readme = written(target, places, chat_folder, tmp_path / "folder")
    loaded = yaml.safe_load(config)
    assert tuple(loaded.get(key) for key in keys) == (str(chat_folder), None)
    assert f"The base model is the folder `{chat_folder}`" in readme


def test_litgpt_gets_its_own_form_of_the_base_first(
    places: tuple[Conversation, ...], chat_folder: Path, tmp_path: Path
) -> None:
    """A hub model is downloaded by LitGPT; a folder, or one revision, is copied from here and converted."""
    _, hub = written("litgpt", places, chat_folder, tmp_path / "hub", base="hf:org/name")
    assert "litgpt download org/name\n" in hub

    for name, base in (("folder", f"path:{chat_folder}"), ("revision", "hf:org/name@v1")):
        config, copied = written("litgpt", places, chat_folder, tmp_path / name, base=base)
        checkpoint = yaml.safe_load(config)["checkpoint_dir"]
        assert f"cp -rL {chat_folder} {checkpoint}\nlitgpt convert_to_litgpt {checkpoint}\n" in copied


def test_the_script_for_unsloth_is_python_with_the_settings_as_literals(
    places: tuple[Conversation, ...], chat_folder: Path, tmp_path: Path
) -> None:
    """What the script passes on can be read from it without running it."""
    script, _ = written("unsloth", places, chat_folder, tmp_path / "out", rank=4, alpha=8.5, patience=2)
    values = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(script).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id.isupper()
    }
    assert (values["ADAPT"]["r"], values["ADAPT"]["lora_alpha"], values["PATIENCE"]) == (4, 8.5, 2)


# --- what is refused


def test_an_unknown_trainer_is_refused(
    places: tuple[Conversation, ...], chat_folder: Path, tmp_path: Path
) -> None:
    """The nearest name is proposed, and nothing is written."""
    with pytest.raises(UsageError) as caught:
        hand_over("axolot", places, places, TrainSettings(), base=chat_folder, out=tmp_path / "out")
    assert caught.value.message == "there is no trainer 'axolot' to hand over to"
    assert caught.value.hint == "Did you mean axolotl?"
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(
    places: tuple[Conversation, ...], chat_folder: Path, tmp_path: Path
) -> None:
    """A file that lies there stays the only one."""
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="is not an empty folder; nothing there was changed"):
        hand_over("trl", places, places, TrainSettings(), base=chat_folder, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_warm_up_without_end_is_refused_for_litgpt(
    places: tuple[Conversation, ...], chat_folder: Path, tmp_path: Path
) -> None:
    """LitGPT divides by the steps that are left after it."""
    with pytest.raises(TrainingError, match="and 1 of 1 are such"):
        written("litgpt", places, chat_folder, tmp_path / "out", batch_size=10)


@pytest.mark.parametrize("target", ["axolotl", "litgpt", "trl"])
def test_an_alpha_that_is_not_whole_is_refused_where_it_must_be(
    target: str, places: tuple[Conversation, ...], chat_folder: Path, tmp_path: Path
) -> None:
    """It is not rounded: the tool's name, the value and the way out are in the error."""
    with pytest.raises(TrainingError) as caught:
        written(target, places, chat_folder, tmp_path / "out", alpha=12.5)
    assert "takes whole numbers for LoRA's alpha, and alpha is 12.5" in caught.value.message
    assert caught.value.hint == "Set alpha = 12 in [train], or hand over to Unsloth."
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("target", "method"),
    [("litgpt", "rslora"), ("litgpt", "dora"), ("unsloth", "dora"), ("trl", "full"), ("axolotl", "full")],
)
def test_a_method_that_is_not_handed_over_is_refused(
    target: str, method: str, places: tuple[Conversation, ...], chat_folder: Path, tmp_path: Path
) -> None:
    """No tool trains another method than the settings say."""
    with pytest.raises(TrainingError, match=f"'{method}'"):
        written(target, places, chat_folder, tmp_path / "out", method=method)


def test_only_answers_are_handed_over(
    places: tuple[Conversation, ...], chat_folder: Path, tmp_path: Path
) -> None:
    """Another objective is refused by its name."""
    with pytest.raises(TrainingError, match="objective = 'text' is not handed over"):
        written("trl", places, chat_folder, tmp_path / "out", objective="text")


def test_examples_that_would_teach_nothing_are_refused(
    places: tuple[Conversation, ...], chat_folder: Path, tmp_path: Path
) -> None:
    """The checks are those of our own training."""
    with pytest.raises(TrainingError, match="there is no validation example"):
        hand_over("trl", places, (), TrainSettings(), base=chat_folder, out=tmp_path / "out")


def test_a_template_without_a_place_for_a_system_is_refused_for_axolotl(
    chat_folder: Path, tmp_path: Path
) -> None:
    """Axolotl would train without the system's words; the others get rows that have them."""
    base = tmp_path / "base"
    base.mkdir()
    for file in chat_folder.iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    template = base / "chat_template.jinja"
    users = "{% for message in messages if message['role'] != 'system' %}"
    template.write_text(template.read_text("utf-8").replace("{% for message in messages %}", users), "utf-8")

    with pytest.raises(TrainingError, match="Axolotl renders with the chat template alone"):
        written("axolotl", (TWO_TURNS,), base, tmp_path / "axolotl")
    written("litgpt", (TWO_TURNS,), base, tmp_path / "litgpt", epochs=2)
    assert "You help." in lines(tmp_path / "litgpt" / "data" / "train.jsonl")[0]["instruction"]


def test_an_end_of_turn_that_is_not_the_tokenizers_eos(
    places: tuple[Conversation, ...], chat_folder: Path, tmp_path: Path
) -> None:
    """Axolotl is told the token; LitGPT, which always writes the tokenizer's own, is refused."""
    base = tmp_path / "base"
    base.mkdir()
    for file in chat_folder.iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    tokenizer = json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokenizer["eos_token"] = "<|im_start|>"
    (base / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")

    config, _ = written("axolotl", places, base, tmp_path / "axolotl")
    assert yaml.safe_load(config)["eot_tokens"] == ["<|im_end|>"]
    with pytest.raises(TrainingError, match="LitGPT ends every answer with the tokenizer's eos_token"):
        written("litgpt", places, base, tmp_path / "litgpt")
