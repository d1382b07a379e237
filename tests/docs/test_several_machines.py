"""What the page about several machines shows is read by the launchers themselves, and accepted by the loop."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from tests.docs.blocks import blocks
from tests.docs.test_pages import _pattern, _said
from torch.distributed.run import get_args_parser

from tunesmith.errors import UsageError
from tunesmith.training import ranks

PAGE = Path(__file__).parents[2] / "docs" / "several-machines.md"
TRAINED = ["train", "rows.jsonl", "--base", "hf:org/name", "--out", "tuned"]


def _files(folder: Path) -> list[Path]:
    """Write the page's files to a folder and return them."""
    named = [block for block in blocks(PAGE) if block.file]
    for block in named:
        (folder / str(block.file)).write_text(block.text, encoding="utf-8")
    return [folder / str(block.file) for block in named]


def _lines(program: str) -> list[list[str]]:
    """Return the arguments that the page gives to a program, variables filled in with a number."""
    texts = [block.text.replace("\\\n", " ") for block in blocks(PAGE) if block.language == "bash"]
    found = [match for text in texts for match in re.findall(rf"^(?:srun )?{program} (.*)$", text, re.M)]
    return [shlex.split(re.sub(r"\$\w+", "2", line)) for line in found]


def test_torchrun_reads_its_lines() -> None:
    """On one node and in the SLURM script: eight processes a node, and tunesmith with the rest."""
    one, slurm = (get_args_parser().parse_args(line) for line in _lines("torchrun"))
    for read in (one, slurm):
        assert (read.nproc_per_node, read.module, read.training_script) == ("8", True, "tunesmith")
        assert read.training_script_args == TRAINED
    assert (slurm.nnodes, slurm.rdzv_backend, slurm.rdzv_endpoint) == ("2", "c10d", "2:29500")


def test_the_slurm_script_is_one(tmp_path: Path) -> None:
    """A shell reads it without complaint."""
    [script] = [file for file in _files(tmp_path) if file.suffix == ".sbatch"]
    subprocess.run(["bash", "-n", str(script)], check=True)


def _environment(folder: Path, more: str = "") -> dict[str, Any]:
    """Return what `accelerate launch` puts in the environment for the page's line and file, `more` lines added."""
    [file] = [file for file in _files(folder) if file.suffix == ".yaml"]
    file.write_text(file.read_text(encoding="utf-8") + more, encoding="utf-8")
    load_config_from_file(str(file))
    [words] = _lines("accelerate launch")
    words[words.index("fsdp2.yaml")] = str(file)
    read, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    assert (read.module, read.training_script, read.training_script_args) == (True, "tunesmith", TRAINED)
    made: dict[str, Any] = prepare_multi_gpu_env(read)
    return {name: value for name, value in made.items() if name.startswith(("ACCELERATE_", "FSDP_"))}


def test_accelerate_reads_the_file_and_the_loop_accepts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launcher asks for FSDP2 as the page says, and nothing of what it asks is refused."""
    asked = _environment(tmp_path)
    assert asked["ACCELERATE_USE_FSDP"] == "true"
    assert (asked["FSDP_VERSION"], asked["FSDP_RESHARD_AFTER_FORWARD"]) == ("2", "true")
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    assert ranks.asks_for_shards()


def test_what_the_page_says_is_refused_is_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same file with accelerate's own activation checkpointing is not followed in silence."""
    for name, value in _environment(tmp_path, "  fsdp_activation_checkpointing: true\n").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="fsdp_activation_checkpointing is not followed"):
        ranks.asks_for_shards()


def test_errors_on_the_page_are_what_the_code_says() -> None:
    """Each message in the table begins a text of the source."""
    shown = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(shown) > 5
    assert [message for message in shown if not re.search(_pattern(message), _said())] == []
