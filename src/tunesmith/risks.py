"""The stage `risks`: the language model looked at before and after tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunesmith import cache_keys, finished, steps, workshops
from tunesmith.artifacts import Artifact, write_text_atomic
from tunesmith.config import Config
from tunesmith.records import Conversation, Example, Message, Score, read_jsonl, write_jsonl
from tunesmith.records import to_json as to_line
from tunesmith.steps import Work

if TYPE_CHECKING:
    from tunesmith.evaluating.risks import Material as RiskMaterial
    from tunesmith.evaluating.risks import Risks, Subject
    from tunesmith.models.base import ChatModel


def settings(config: Config) -> dict[str, Any]:
    """Return what looking for risks is told."""
    return {"risks": config.risks.model_dump(), "base": config.train.base}


def risks(work: Work) -> dict[str, int]:
    """Look at the language model before and after tuning: what it forgot, gives away, and whom it obeys."""
    from tunesmith.evaluating.risks import Seen, judge, look
    from tunesmith.evaluating.risks.page import to_json, worse

    told, shop = work.config.risks, workshops.workshop(work.inputs, work.config, work.say)
    material = material_of(work.inputs, work.config)
    seen: dict[str, dict[Any, tuple[Seen, ...]]] = {"base": {}, "tuned": {}}
    total = 2 * len(told.checks)
    for contender, load in (("base", shop.load_base), ("tuned", shop.load_tuned)):
        # Loaded here and not kept: the second model has the first one's place.
        model: Any = None
        for check in told.checks:
            journal = work.scratch / f"{contender}-{check}.jsonl"
            if not journal.is_file():
                model = model or subject_of(load())
                found = look(model, check, material, told, contender=contender)
                write_text_atomic(journal, "".join(to_line(one) + "\n" for one in found))
            seen[contender][check] = tuple(read_jsonl(Seen, journal))
            work.progress(sum(map(len, seen.values())), total, f"{contender}: {check}")
        write_jsonl(
            work.draft / f"{contender}.jsonl", [one for each in seen[contender].values() for one in each]
        )
    names = (work.config.train.base, f"{work.config.train.base} tuned")
    made = judge(seen["base"], seen["tuned"], material, told, names=names)
    for note in made.notes:
        work.say(note)
    steps.write_json(work.draft / "risks.json", to_json(made))
    return {
        "figures": len(made.risks),
        "worse": len(tuple(worse(made))),
        "not measured": len(made.unmeasured),
    }


def subject_of(model: ChatModel) -> Subject:
    """Return a model as risks are looked for in it: one whose weights are here tells likelihoods too."""
    from tunesmith.evaluating.risks import Subject
    from tunesmith.models.likelihood import Likelihood
    from tunesmith.models.local import LocalModel

    told = Likelihood(model.model, model.tokenizer) if isinstance(model, LocalModel) else None
    return Subject(model, told)


def material_of(inputs: Mapping[str, Artifact], config: Config) -> RiskMaterial:
    """Return the rows that were trained on and those that were not, what training showed, the secrets, the scores.

    Held-out rows whose answer stands among the trained ones are no control: their answers were learned like the others.
    """
    from tunesmith.curating.privacy import find_private
    from tunesmith.evaluating.risks import Material
    from tunesmith.evaluating.risks.look import sample
    from tunesmith.training.canaries import canaries
    from tunesmith.training.mix import select

    system, in_words = (
        finished.system_for(finished.catalogue_of(inputs), config),
        cache_keys.in_words_of(config),
    )

    def row(example: Example) -> Conversation:
        asked = Message("system", system if example.entry is not None else in_words or system)
        return (
            asked,
            *example.messages,
            Message("user", example.question),
            Message("assistant", example.answer),
        )

    trained = select(finished.examples_of(inputs, "train"), config.train.examples, config.train.seed)
    answers = {one.answer for one in trained}
    held_out = [
        one
        for name in ("valid", "seen", "unseen")
        for one in finished.examples_of(inputs, name)
        if one.answer not in answers
    ]
    documents = finished.documents_of(inputs) if config.train.retrieved_share else ()
    privacy = config.curate.privacy
    return Material(
        members=tuple(map(row, sample(trained, config.risks))),
        others=tuple(map(row, sample(held_out, config.risks))),
        trained="\n".join(
            (
                *(message.content for each in map(row, trained) for message in each),
                *(document.text for document in documents),
            )
        ),
        canaries=canaries(config.train),
        scores=tuple(read_jsonl(Score, inputs["evaluate"].file("scores.jsonl"))),
        questions={one.id: one for name in finished.SETS for one in finished.examples_of(inputs, name)},
        system=system,
        detect=lambda text: [found.value for found in find_private(text, privacy)],
    )


def risks_in(artifact: Artifact) -> Risks:
    """Return the risks that a finished stage found."""
    from tunesmith.evaluating.risks.page import from_json

    return from_json(finished.read_json(artifact.file("risks.json")))
