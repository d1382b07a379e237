"""Starting a server: addresses, ports and aliases that cannot be, and limits of keys."""

from __future__ import annotations

import socket
from pathlib import Path

import openai
import pytest

from tunesmith.errors import AddressError, UsageError
from tunesmith.serving.keys import Limits, new_key
from tunesmith.serving.options import Options, options_from
from tunesmith.serving.server import serve

from .running import Running


def test_an_address_that_others_reach_needs_keys(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no API keys"):
        serve(tmp_path / "home", Options(), host="0.0.0.0", port=0)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"127.0.0.1:{port} cannot be listened on"):
            serve(tmp_path / "home", Options(), port=port)


def test_models_and_aliases_are_words_of_the_command_line() -> None:
    options = options_from(["mine=path:folder", "gguf:a.gguf"], ["gpt-4o=mine", "mini=smollm2"])
    assert options.models == {
        "mine": "path:folder",
        "gguf:a.gguf": "gguf:a.gguf",
        "gpt-4o": "mine",
        "mini": "smollm2",
    }
    assert set(options_from([], ["x=smollm2"]).models) == {"smollm2", "minilm", "x"}
    with pytest.raises(UsageError, match="'x' is no alias"):
        options_from([], ["x"])
    with pytest.raises(AddressError):
        options_from([], ["x=nowhere"])


def test_limits_are_words_of_the_command_line() -> None:
    options = options_from([], [], ["most_rows=8", "idle_seconds=2.5", "metrics_in_base64=true"])
    assert (options.most_rows, options.idle_seconds, options.metrics_in_base64) == (8, 2.5, True)
    assert options.models == Options().models
    with pytest.raises(UsageError) as caught:
        options_from(
            [],
            [],
            ["most_rows=0", "idle_seconds=nan", "most_row=3", "models=x", "most_engines", "most_rows=2"],
        )
    assert caught.value.message == (
        "there is no setting 'most_row': did you mean 'most_rows'?; there is no setting 'models': there are "
        "max_body_bytes, max_upload_bytes, most_engines, most_rows, embedded_tokens, body_seconds, idle_seconds, "
        "metrics_in_base64; 'most_engines' has no value; most_rows is given twice; idle_seconds = 'nan': it should "
        "be a finite number."
    )


def test_a_key_that_used_its_minute_up_is_told_how_long_to_wait(running: Running) -> None:
    key = new_key(
        running.services.store,
        organisation="o",
        name="",
        scopes=["inference"],
        limits=Limits(requests_per_minute=2),
    )
    client = running.as_key(key)
    answer = client.models.with_raw_response.list()
    assert answer.headers["x-ratelimit-limit-requests"] == "2"
    assert answer.headers["x-ratelimit-remaining-requests"] == "1"
    client.models.list()
    with pytest.raises(openai.RateLimitError, match="may use 2 requests a minute") as caught:
        client.models.list()
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 30


def test_a_key_may_have_so_many_jobs_and_so_large_files(running: Running) -> None:
    limits = Limits(upload_bytes=10, queued_jobs=0)
    key = new_key(running.services.store, organisation="o", name="", scopes=["fine-tuning"], limits=limits)
    client = running.as_key(key)
    with pytest.raises(openai.APIStatusError, match="larger than the 10 bytes"):
        client.files.create(file=("a.jsonl", b"x" * 11), purpose="fine-tune")
    with pytest.raises(openai.RateLimitError, match="may have 0 jobs at once"):
        client.fine_tuning.jobs.create(model="smollm2", training_file="file-x")
