"""What a person decides about topics: names, weights, what goes and what is joined."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.chunking.choices import Choice, Chosen, choose, read_choices, write_choices
from tunesmith.errors import ConfigError
from tunesmith.records import Topic

TOPICS = (
    Topic("topic-01", "paths", ("path",), ("a", "b"), 0.5),
    Topic("topic-02", "flows", ("flow",), ("c",), 0.3, ("c",)),
    Topic("topic-03", "files", ("file",), ("d",), 0.2),
)


def test_without_choices_all_stays() -> None:
    """Each topic counts once."""
    assert choose(TOPICS, ()) == Chosen(
        TOPICS,
        {topic.id: topic.id for topic in TOPICS},
        {topic.id: 1.0 for topic in TOPICS},
    )


def test_topics_are_named_weighted_dropped_and_joined() -> None:
    """Joined chunks count under the topic that they belong to; what is dropped weighs nothing."""
    chosen = choose(
        TOPICS,
        (
            Choice(label="paths", name="Routes", weight=2.0),
            Choice(label="flows", merge="paths"),
            Choice(label="files", drop=True),
        ),
    )

    assert chosen.topics == (Topic("topic-01", "Routes", ("path",), ("a", "b", "c"), 0.8, ("c",)),)
    assert chosen.topic_of == {"topic-01": "topic-01", "topic-02": "topic-01", "topic-03": "topic-03"}
    assert chosen.weights == {"topic-01": 2.0, "topic-03": 0.0}


def test_a_written_file_is_read_and_changes_nothing(tmp_path: Path) -> None:
    """It lists every topic; what was decided in it is not written over."""
    file = tmp_path / "topics.toml"
    write_choices(file, TOPICS)

    assert choose(TOPICS, read_choices(file)) == choose(TOPICS, ())
    with pytest.raises(ConfigError, match="is there already"):
        write_choices(file, TOPICS)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("[[topic]]\nname = 'x'", ["topic 1: label: Field required"]),
        (
            "[[topic]]\nlabel = 'a'\nwait = 1\n[[topic]]\nlabel = 'a'\nweight = -1",
            [
                "topic 1: wait: Extra inputs are not permitted",
                "topic 2: weight: Input should be greater than or equal to 0",
            ],
        ),
        ("[topics]\nlabel = 'a'", ["there is no table [topics]"]),
    ],
)
def test_faults_of_the_file_are_told_all_at_once(tmp_path: Path, text: str, faults: list[str]) -> None:
    """With the number of the topic and the key."""
    file = tmp_path / "topics.toml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError) as error:
        read_choices(file)

    assert [line.strip() for line in error.value.message.splitlines()[1:]] == faults


def test_labels_that_are_gone_are_named_with_the_nearest() -> None:
    """Topics change with the sources, and a decision must not be lost without a word."""
    with pytest.raises(ConfigError) as error:
        choose(
            TOPICS,
            (Choice(label="path"), Choice(label="flows", merge="files"), Choice(label="files", drop=True)),
        )

    assert error.value.message.splitlines()[1:] == [
        "  there is no topic 'path'; the nearest is 'paths'",
        "  'flows' is joined to 'files', which is dropped or joined itself",
    ]
