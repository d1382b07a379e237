"""Fine-tune a chat model as notebooks do, with the OpenAI SDK alone: fine_tune.py [TRAIN VALID PLOT]."""

from __future__ import annotations

import io
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import altair
import bpe_openai
from openai import NotFoundError, OpenAI

HERE = Path(__file__).parent
MODEL, EPOCHS, PRICE_PER_1K = "gpt-3.5-turbo", 3, 0.008


def main(train: Path, valid: Path, plot: Path) -> None:
    """Do all of it, telling each step."""
    say(f"{len(load(train))} chats to learn from, {len(load(valid))} to look at")
    for path in (train, valid):
        faults = faults_of(load(path))
        if faults:
            raise SystemExit(f"{path}: {dict(faults)}")
    tokens = sum(map(tokens_of, load(train)))
    price = EPOCHS * tokens / 1000 * PRICE_PER_1K
    say(f"{tokens} tokens, {EPOCHS * tokens} in {EPOCHS} epochs: ${price:.2f} at OpenAI's price of 2023")

    client = OpenAI()
    files = [client.files.create(file=path.open("rb"), purpose="fine-tune") for path in (train, valid)]
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=files[0].id,
        validation_file=files[1].id,
        suffix="notebook",
        seed=7,
        hyperparameters={"n_epochs": EPOCHS},
    )
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(1)
        job = client.fine_tuning.jobs.retrieve(job.id)
    events = list(client.fine_tuning.jobs.list_events(job.id))
    for event in reversed(events[:3]):
        say(event.message)
    if job.status != "succeeded" or job.fine_tuned_model is None:
        raise SystemExit(f"the job {job.status}: {job.error}")
    say(f"{job.trained_tokens} tokens were trained on")

    content = client.files.content(job.result_files[0]).text
    losses = draw(content, plot)
    say(f"validation loss from {losses[0]:.3f} to {losses[-1]:.3f}: {plot}")

    question = load(valid)[0]["messages"][:-1]
    for model in (MODEL, job.fine_tuned_model):
        answer = client.chat.completions.create(model=model, messages=question, max_tokens=40, temperature=0)
        say(f"{model}: {answer.choices[0].message.content}")

    checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id)
    for model in (job.fine_tuned_model, *(each.fine_tuned_model_checkpoint for each in checkpoints)):
        client.models.delete(model)
    for file in (*(file.id for file in files), *job.result_files):
        client.files.delete(file)
    try:
        client.models.retrieve(job.fine_tuned_model)
    except NotFoundError:
        say("all is deleted")


def load(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def faults_of(rows: list[dict[str, Any]]) -> Counter[str]:
    """Count what OpenAI's cookbook looks for."""
    faults: Counter[str] = Counter()
    for row in rows:
        messages = row.get("messages") or []
        faults["no messages"] += not messages
        faults["no assistant"] += not any(message.get("role") == "assistant" for message in messages)
        for message in messages:
            faults["a key is missing"] += not {"role", "content"} <= message.keys()
            faults["unknown key"] += bool(message.keys() - {"role", "content", "name"})
            faults["unknown role"] += message.get("role") not in ("system", "user", "assistant")
            faults["no text"] += not isinstance(message.get("content"), str)
    return +faults


def tokens_of(row: dict[str, Any]) -> int:
    """Count the tokens of a chat as the field does: 3 for each message, 3 for the answer's beginning."""
    encoding = bpe_openai.get_encoding("cl100k_base")
    texts = [text for message in row["messages"] for text in (message["role"], message["content"])]
    return 3 + 3 * len(row["messages"]) + sum(len(encoding.encode(text)) for text in texts)


def draw(content: str, plot: Path) -> list[float]:
    """Draw the losses of a job's result file; returns those of the validation."""
    header, *lines = (line.split(",") for line in io.StringIO(content).read().splitlines())
    points = [
        {"step": int(line[0]), "loss": float(value), "of": name}
        for line in lines
        for name, value in zip(header, line, strict=True)
        if name in ("train_loss", "valid_loss") and value
    ]
    altair.Chart(altair.Data(values=points)).mark_line(point=True).encode(
        x="step:Q", y="loss:Q", color="of:N"
    ).save(plot)
    return [point["loss"] for point in points if point["of"] == "valid_loss"]


def say(text: str) -> None:
    """Tell how far it is."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    given = [Path(word) for word in sys.argv[1:]]
    main(*(given or [HERE / "train.jsonl", HERE / "valid.jsonl", Path("losses.svg")]))
