"""Write the tables of settings into the pages of the stages, from the tunesmith.toml that `tunesmith new` makes.

A table stands between `<!-- settings: TABLE -->` and `<!-- /settings -->`.
"""

import re
import sys
from pathlib import Path

from tunesmith.config import template

_KEY = re.compile(r"^(?:# )?(?P<key>\w+) = (?P<value>.*?)  # (?P<for_example>for example: )?(?P<meaning>.*)$")
_PLACE = re.compile(
    r"(?P<begin><!-- settings: (?P<table>\w+) -->\n).*?(?P<end><!-- /settings -->)", re.DOTALL
)


def tables() -> dict[str, str]:
    """Return each table of tunesmith.toml as Markdown: key, default ("" where there is none), meaning."""
    made: dict[str, str] = {}
    for section in re.split(r"^\[", template("NAME", ["SOURCE"]), flags=re.MULTILINE)[1:]:
        name, _, rest = section.partition("]\n")
        rows = [_row(found) for line in rest.split("\n") if (found := _KEY.match(line))]
        made[name] = "\n".join([f"| `[{name}]` | default | |", "|---|---|---|", *rows, ""])
    return made


def _row(found: re.Match[str]) -> str:
    needed = not found[0].startswith("# ")
    default = "needed" if needed else "" if found["for_example"] else f"`{found['value']}`"
    meaning = f"{found['meaning']}; such as `{found['value']}`" if found["for_example"] else found["meaning"]
    return f"| `{found['key']}` | {default} | {meaning} |"


def put_in(text: str) -> str:
    """Return a page's text with each table as it is now; raises KeyError for a table that does not exist."""
    made = tables()
    return _PLACE.sub(lambda place: place["begin"] + made[place["table"]] + place["end"], text)


if __name__ == "__main__":
    for page in map(Path, sys.argv[1:]):
        page.write_text(put_in(page.read_text(encoding="utf-8")), encoding="utf-8")
