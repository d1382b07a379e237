"""The stage `report`: the scores weighed, and the page and its figures written."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from tunesmith import finished, steps
from tunesmith.artifacts import Artifact
from tunesmith.config import Config
from tunesmith.curves import curve_of
from tunesmith.errors import ConfigError
from tunesmith.evaluating.costs import Measure
from tunesmith.records import Score, Source, Tally, read_jsonl
from tunesmith.risks import risks_in
from tunesmith.steps import Work

if TYPE_CHECKING:
    from tunesmith.evaluating.classes import ClassReport
    from tunesmith.evaluating.costs import Made
    from tunesmith.evaluating.report import Part


def report(work: Work) -> dict[str, int]:
    """Weigh the scores, and write the page and the figures."""
    from tunesmith.evaluating.report import render_html, to_json

    data = report_data(work.inputs, work.config)
    work.draft.joinpath("report.html").write_text(render_html(data), encoding="utf-8")
    steps.write_json(work.draft / "report.json", to_json(data))
    return {"contenders": len({one.contender for one in data.summaries}), "comparisons": len(data.paired)}


def report_data(inputs: Mapping[str, Artifact], config: Config) -> Any:
    """Return everything that the report shows."""
    from tunesmith.evaluating import report as page
    from tunesmith.evaluating.costs import bills, break_even
    from tunesmith.evaluating.curve import told
    from tunesmith.evaluating.scores import columns
    from tunesmith.models.address import is_remote

    parts = [part for part in (_calls_part(inputs), _words_part(inputs, config)) if part is not None]
    main, metric = parts[0], parts[0].summaries[0].metric
    learning = curve_of(inputs, config, main.scores, metric)
    learned = () if learning is None else tuple(told(learning))
    decision = replace(main.decision, change=(*learned, *main.decision.change))
    main_scores = {
        name: column for (name, set_name), column in columns(main.scores).items() if set_name == decision.set
    }
    paid = bills(main_scores, _made(inputs), config.report, remote=is_remote(config.train.base))
    distances = finished.read_json(inputs["curate"].file("distances.json"))
    return page.ReportData(
        project=config.name,
        sources=tuple(read_jsonl(Source, inputs["collect"].file("sources.jsonl"))),
        decision=decision,
        summaries=main.summaries,
        floors=main.floors,
        ceilings=main.ceilings,
        paired=main.paired,
        scores=main.scores,
        sets=main.sets,
        words=parts[1] if len(parts) > 1 else None,
        story=_story(inputs),
        distances=tuple(page.LexicalDistance(one["set"], one["mean"]) for one in distances),
        topics=tuple(
            page.TopicSize(topic.label, len(topic.chunks))
            for topic in finished.chosen_topics(inputs, config).topics
        ),
        curve=steps.points_of(finished.run_of(inputs["train"])["steps"]),
        cost=_costs(inputs),
        learning=learning,
        classes=_classes(inputs, parts[-1]),
        bills=paid,
        break_even=break_even(decision.best, paid),
        latencies=finished.read_json(inputs["evaluate"].file(finished.LATENCIES)),
        environment=_facts(inputs),
        risks=risks_in(inputs["risks"]),
    )


def _classes(inputs: Mapping[str, Artifact], part: Part) -> dict[str, ClassReport]:
    """Return by contender all about its labels on the main set; nothing where answers in words are no labels."""
    from tunesmith.evaluating.further import class_report
    from tunesmith.evaluating.scores import columns

    labels = finished.labels_in(inputs)
    if not labels or part.summaries[0].metric == "exact":
        return {}
    examples = {one.id: one for one in part.sets[part.decision.set]}
    found = {
        name: class_report(column, examples, labels)
        for (name, set_name), column in columns(part.scores).items()
        if set_name == part.decision.set
    }
    return {name: one for name, one in found.items() if one is not None}


def _made(inputs: Mapping[str, Artifact]) -> Made:
    """Return what making the encoder and the model took."""
    from tunesmith.evaluating.costs import Made
    from tunesmith.training.openai_chat import price_of

    run, tuned = (
        finished.run_of(inputs["train"]),
        finished.read_json(inputs["encoder"].file("run.json"))["seconds"],
    )
    if not finished.is_hosted(inputs["train"]):
        return Made(tuned, run["seconds"] + run["valid_seconds"])
    trained = run["trained_tokens"]
    return Made(tuned, None, None if trained is None else price_of(trained, run["base"], run["base_url"]))


def _measured(inputs: Mapping[str, Artifact]) -> list[tuple[Score, ...]]:
    """Return the scores of the contenders, the floors and the ceilings."""
    return [
        tuple(read_jsonl(Score, inputs["evaluate"].file(f"{name}.jsonl")))
        for name in ("scores", "floors", "ceilings")
    ]


def _calls_part(inputs: Mapping[str, Artifact]) -> Part | None:
    """Return what the report shows of calls, None where none were asked for."""
    from tunesmith.evaluating.report import Part
    from tunesmith.evaluating.scores import of_calls, summarise
    from tunesmith.evaluating.verdict import compare, decide

    scores, floors, ceilings = map(of_calls, _measured(inputs))
    if not scores:
        return None
    paired = compare(scores, floors)
    summaries, floor_summaries, ceiling_summaries = (summarise(each) for each in (scores, floors, ceilings))
    decision = decide(summaries, paired, floors=floor_summaries, ceilings=ceiling_summaries)
    sets = finished.test_sets(inputs, finished.about_calls)
    return Part(decision, summaries, floor_summaries, ceiling_summaries, paired, scores, sets)


def _words_part(inputs: Mapping[str, Artifact], config: Config) -> Part | None:
    """Return what the report shows of answers in words, None where there are none."""
    from tunesmith.evaluating.report import Part
    from tunesmith.evaluating.scores import in_words, summarise_words
    from tunesmith.evaluating.verdict import compare, decide

    scores, floors, ceilings = map(in_words, _measured(inputs))
    if not scores:
        return None
    metric = finished.measure_of(inputs, config)
    _check_measured(metric, scores)
    paired = compare(scores, floors, metric)
    summaries, floor_summaries, ceiling_summaries = (
        summarise_words(each, metric) for each in (scores, floors, ceilings)
    )
    decision = decide(summaries, paired, floors=floor_summaries, ceilings=ceiling_summaries)
    sets = finished.test_sets(inputs, finished.about_texts)
    return Part(decision, summaries, floor_summaries, ceiling_summaries, paired, scores, sets)


def _check_measured(metric: str, scores: Sequence[Score]) -> None:
    """Check that every contender's answers in words to every set have what the verdict rests on; raises ConfigError."""
    from tunesmith.evaluating.scores import columns

    measured = [{name for one in column for name in one.measures} for column in columns(scores).values()]
    if all(metric in names for names in measured):
        return
    there = [name for name in get_args(Measure) if all(name in names for names in measured)]
    why = ", as they are no labels: few, short, and the same again and again" if metric == "accuracy" else ""
    raise ConfigError(
        f"[report] measure = {metric!r}: the answers in words were not measured by it{why}.",
        hint=f"Name one that they were measured by: {', '.join(there)}.",
    )


def _story(inputs: Mapping[str, Artifact]) -> tuple[Any, ...]:
    from tunesmith.evaluating.report import StageStory

    left_out = finished.read_json(inputs["collect"].file("left_out.json"))
    entries = len(finished.catalogue_of(inputs).entries)
    collected = Tally(entries + sum(left_out.values()), entries, left_out)
    return (
        StageStory("collect", "entries", collected),
        *(
            StageStory(stage, "examples", Tally(**finished.read_json(inputs[stage].file("tally.json"))))
            for stage in ("generate", "curate")
        ),
    )


def _costs(inputs: Mapping[str, Artifact]) -> tuple[Any, ...]:
    from tunesmith.evaluating.report import Cost

    rows = {
        row["way"].partition(" ")[0]: row
        for row in finished.read_json(inputs["estimate"].file("plan.json"))["rows"]
    }
    encoder_run = finished.read_json(inputs["encoder"].file("run.json"))
    run, tuned = finished.run_of(inputs["train"]), rows.get("encoder")
    return (
        Cost("encoder, tuning time", "s", tuned and tuned["seconds"], encoder_run["seconds"]),
        *(_hosted_costs if finished.is_hosted(inputs["train"]) else _local_costs)(rows, run),
        Cost("evaluating all contenders", "s", None, inputs["evaluate"].manifest.seconds),
    )


def _local_costs(rows: Mapping[str, Any], run: Mapping[str, Any]) -> tuple[Any, ...]:
    from tunesmith.evaluating.report import Cost

    adapter, hosted = rows["LoRA"], next((row for row in rows.values() if row["price"]), None)
    giga = 1 / 2**30
    return (
        Cost("language model, tokens trained on", "tokens", adapter["tokens"], run["tokens"]),
        Cost("language model, tuning time", "s", adapter["seconds"], run["seconds"] + run["valid_seconds"]),
        Cost(
            "memory at the peak of training", "GiB", adapter["memory_bytes"] * giga, run["peak_bytes"] * giga
        ),
        *((Cost(hosted["way"], "USD", hosted["price"], None),) if hosted else ()),
    )


def _hosted_costs(rows: Mapping[str, Any], run: Mapping[str, Any]) -> tuple[Any, ...]:
    from tunesmith.evaluating.report import Cost
    from tunesmith.training.openai_chat import price_of

    row, trained = rows[finished.HOSTED_WAY], run["trained_tokens"]
    price = None if trained is None else price_of(trained, run["base"], run["base_url"])
    return (
        Cost("language model, tokens trained on", "tokens", row["tokens"], trained),
        Cost("language model, from the job's creation to its end", "s", None, run["seconds"]),
        Cost(row["way"], "USD", row["price"], price),
    )


def _facts(inputs: Mapping[str, Artifact]) -> tuple[Any, ...]:
    import os
    from importlib.metadata import version

    from tunesmith.evaluating.report import Fact

    run = finished.run_of(inputs["train"])
    return (
        Fact("evaluated", inputs["evaluate"].manifest.created),
        Fact("processor", f"{_processor()}, {os.cpu_count()} cores"),
        Fact("tuned by", run["base_url"])
        if finished.is_hosted(inputs["train"])
        else Fact("arithmetic", run["dtype"]),
        Fact("Python", platform.python_version()),
        *(Fact(name, version(name)) for name in ("torch", "transformers", "tunesmith")),
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
