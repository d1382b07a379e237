"""Run the project in FOLDER until STAGE has told its progress COUNT times, then die as by `kill -9`."""

from __future__ import annotations

import os
import signal
import sys

from tunesmith.project import Project, Silent


class Deadly(Silent):
    """Kills its own process at the `count`-th progress of a stage."""

    def __init__(self, stage: str, count: int) -> None:
        self.stage = stage
        self.count = count
        self.current = ""

    def stage_started(self, name: str, caption: str) -> None:
        """Remember which stage runs."""
        self.current = name

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Count, and die at the last."""
        self.count -= self.current == self.stage
        if self.count == 0:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    folder, stage, count = sys.argv[1:]
    Project.open(folder).run(stage, Deadly(stage, int(count)))
