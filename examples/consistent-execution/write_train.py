"""Write train.jsonl: booking requests put together from phrases, each with its record. The test was written by hand.

python write_train.py
"""

from __future__ import annotations

import json
import random
from pathlib import Path

MACHINES = {
    "laser": ("laser", "laser cutter"),
    "kiln": ("kiln", "pottery kiln"),
    "lathe": ("lathe", "wood lathe"),
    "cnc": ("CNC", "CNC router"),
    "printer": ("3D printer", "printer"),
    "press": ("drill press", "press"),
}
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
SPOKEN = ("one", "two", "three", "four", "five")
FRAMES = (
    "Please book the {machine} on {day} at {time} {hours}, {people}.",
    "{day}, {time}: {machine} {hours}. {people}.",
    "I need the {machine} {hours} on {day}, beginning at {time}. {people}.",
    "Could {people_subject} have the {machine} {day} from {time} {hours}?",
    "Hi, {machine} free on {day}? I'd start at {time} and stay {hours}. {people}.",
    "One reservation: {machine}, {day}, {time}, {hours}, {people}.",
    "We talked about {day}. Put me down for the {machine} at {time}, {hours}. {people}.",
    "{people}, {machine}, {hours} from {time} on {day}, thanks.",
)


def times(start: int, rng: random.Random) -> str:
    """Return a way to say a full or half hour, given in half hours after midnight."""
    hour, half = divmod(start, 2)
    noon = "am" if hour < 12 else "pm"
    twelve = (hour - 1) % 12 + 1
    ways = [f"{hour}:{'30' if half else '00'}", f"{twelve}{':30' if half else ''} {noon}"]
    if half:
        ways.append(f"half past {twelve} {'in the morning' if hour < 12 else 'in the afternoon'}")
    else:
        ways += [f"{twelve} o'clock {'in the morning' if hour < 12 else 'in the afternoon'}"]
    if (hour, half) == (12, 0):
        ways.append("noon")
    return rng.choice(ways)


def durations(hours: int, rng: random.Random) -> str:
    """Return a way to say so many hours."""
    many = "" if hours == 1 else "s"
    return rng.choice((f"for {hours} hour{many}", f"{SPOKEN[hours - 1]} hour{many}", f"for {hours} h"))


def company(people: int, rng: random.Random) -> str:
    """Return a way to say how many come."""
    if people == 1:
        return rng.choice(("only me", "I come alone", "1 person"))
    others = SPOKEN[people - 2]
    return rng.choice((f"{people} people", f"there are {SPOKEN[people - 1]} of us", f"me and {others} more"))


def main() -> None:
    """Write 240 rows, always the same."""
    rng = random.Random(0)
    rows = []
    for number in range(240):
        machine, day = list(MACHINES)[number % 6], DAYS[number % 7]
        start, hours, people = rng.randrange(14, 41), rng.randint(1, 5), rng.randint(1, 4)
        said = company(people, rng)
        text = FRAMES[number % len(FRAMES)].format(
            machine=rng.choice(MACHINES[machine]),
            day=rng.choice((day.capitalize(), day.capitalize()[:3])),
            time=times(start, rng),
            hours=durations(hours, rng),
            people=said,
            people_subject="I" if people == 1 else f"{SPOKEN[people - 1]} of us",
        )
        clock = f"{start // 2:02d}:{'30' if start % 2 else '00'}"
        record = {"machine": machine, "day": day, "start": clock, "hours": hours, "people": people}
        rows.append({"text": text[0].upper() + text[1:], "record": record})
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    Path(__file__).with_name("train.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
