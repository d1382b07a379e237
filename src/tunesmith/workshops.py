"""A project's workshop: from finished artefacts to all that contenders are put together from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.artifacts import Artifact
from tunesmith.cache_keys import adapter_folder, contender_digests, encoder_digest, file_digest
from tunesmith.config import Config
from tunesmith.contenders import Workshop
from tunesmith.errors import AddressError, ConfigError, ModelError, UsageError
from tunesmith.finished import (
    ARITHMETIC,
    about_calls,
    about_texts,
    base_of,
    catalogue_of,
    documents_of,
    encoder_of,
    examples_of,
    noted_arithmetic,
    place_of,
    plain_index,
    read_json,
    run_of,
    tuned_index,
    tuned_place,
)
from tunesmith.records import (
    Conversation,
    Example,
    Message,
    fingerprint,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunesmith.models.address import Place
    from tunesmith.models.base import ChatModel, Retriever
    from tunesmith.models.known import Known
    from tunesmith.models.tools import Toolbox
    from tunesmith.retrieving.reranking import Relevance

SHOTS = 3
ANSWERS = "answers"  # what contenders have said, for all runs of a project
_ANSWERED = 2  # raised when the same contender would say something else than before


def workshop(
    inputs: Mapping[str, Artifact], config: Config, say: Callable[[str], None], tuned: Path | None = None
) -> Workshop:
    """Return what every contender can be put together from, in the arithmetic of the training if there was one.

    `tuned` is the folder of a training that takes the place of the project's own.
    """
    from tunesmith.inference.packed import pack
    from tunesmith.models.address import Place, is_remote, load_chat
    from tunesmith.models.constrained import CatalogueGrammar
    from tunesmith.models.local import LocalModel, load_model, load_tokenizer
    from tunesmith.models.said import Said

    base, remote = config.train.base, is_remote(config.train.base)

    def load(adapter: Path | None, name: str) -> ChatModel:
        return loaded(Place(base_of(config, say), adapter), name)

    def loaded(place: Place, name: str) -> ChatModel:
        model = load_model(place.folder, dtype=dtype, adapter=place.adapter)
        pack(model)  # it is only read from now on, and says the same
        return LocalModel(
            model,
            load_tokenizer(place.folder, adapter=place.adapter),
            name=name,
            batch_size=config.evaluate.batch_size,
            said=Said(),
        )

    def load_adapted(name: str) -> ChatModel:
        try:
            return load(adapter_folder(config, name), f"{base} {name}")
        except ModelError as error:
            raise ModelError(
                f"the adapter {name} in [evaluate] does not go with {base}: {error.message}",
                hint=error.hint or "Name in [train] the base model that it was trained on.",
            ) from error

    def load_base() -> ChatModel:
        return load_chat(base) if remote else load(None, base)

    def load_tuned() -> ChatModel:
        if remote:
            return load_chat(run_of(inputs["train"])["address"])
        place = tuned_place(inputs, config, say) if tuned is None else place_of(tuned, config, say)
        return loaded(place, f"{base} tuned")

    here = "train" in inputs and not remote
    dtype = noted_arithmetic(inputs["train"].file(ARITHMETIC)) if here else None
    catalogue = catalogue_of(inputs)
    train_rows = examples_of(inputs, "train")
    shots = _shots(about_calls(train_rows) or train_rows, config)
    shop = Workshop(
        load_base=load_base,
        load_tuned=load_tuned,
        load_retriever=lambda: plain_index(inputs, config, say),
        load_tuned_retriever=lambda: tuned_index(inputs, config),
        load_constraint=lambda model: CatalogueGrammar(catalogue, model.tokenizer).constraint,
        shots=shots,
        passages=config.retrieve.count,
        load_adapted={name: partial(load_adapted, name) for name in config.adapters},
        load_retrievers={
            "bm25": lambda: plain_index(inputs, config, say).by("words"),
            "faiss": lambda: plain_index(inputs, config, say).by("vectors"),
            "pinecone": lambda: pinecone_of(inputs, config, say),
        },
        load_known=lambda: known_of(about_calls(train_rows) or train_rows, config, say),
        load_relevance=lambda: relevance_of(config, lambda: shop.base, say),
        load_schema=lambda: schema_of(config),
        load_toolbox=lambda: tools_of(inputs, config),
        tools=config.tools,
        rerank_depth=config.retrieve.rerank_depth,
    )
    return shop


def kept(model: ChatModel, name: str, inputs: Mapping[str, Artifact], config: Config) -> ChatModel:
    """Return a contender that answers from what it said in an earlier run, if nothing that it hangs on has changed.

    So another contender, or another question, costs no more than its own answers. They come with the seconds that they
    took then.
    """
    from tunesmith.evaluating.names import is_tuned, retriever_of
    from tunesmith.models.address import is_remote
    from tunesmith.models.keeping import keeping

    if is_remote(config.train.base):
        return model  # what answers behind an address may be another tomorrow
    parts = set(name.split("+"))
    hangs_on = {
        "collect": True,
        "index": retriever_of(name) is not None,
        "curate": bool(parts & {"few_shot", "nearest_shots", "classifier"}),
        "encoder": "tuned_retrieval" in parts,
        "train": is_tuned(name),
    }
    identity = fingerprint(
        _ANSWERED,
        name,
        [inputs[stage].id for stage, does in hangs_on.items() if does],
        config.train.base,
        config.train.seed,
        config.encoder.base,
        encoder_digest(config),
        contender_digests(config),
        config.retrieve.model_dump(),
        config.tools.model_dump(),
        read_json(inputs["train"].file(ARITHMETIC)) if ARITHMETIC in inputs["train"].manifest.files else None,
    )
    return keeping(model, config.folder / ".tunesmith" / ANSWERS, identity=identity)


def in_words_workshop(shop: Workshop, inputs: Mapping[str, Artifact], config: Config) -> Workshop:
    """Return a workshop of the same models whose few shots are answered in words."""
    rows = about_texts(examples_of(inputs, "train"))
    return replace(
        shop,
        load_base=lambda: shop.base,
        load_tuned=lambda: shop.tuned,
        load_retriever=lambda: shop.retriever,
        load_tuned_retriever=lambda: shop.tuned_retriever,
        load_adapted={name: partial(shop.adapted, name) for name in shop.load_adapted},
        load_known=lambda: known_of(rows, config, lambda text: None),
        load_relevance=lambda: shop.relevance,
        shots=_shots(rows, config),
    )


def _shots(examples: Sequence[Example], config: Config) -> tuple[Conversation, ...]:
    from tunesmith.training.mix import select

    return tuple(
        (Message("user", one.question), Message("assistant", one.answer))
        for one in select(examples, SHOTS, config.train.seed)
    )


def known_of(examples: Sequence[Example], config: Config, say: Callable[[str], None]) -> Known:
    """Return training examples as known answers: their class is the entry that is called, else the answer."""
    from tunesmith.models.known import Known, KnownAnswer

    answers = tuple(KnownAnswer(one.question, one.answer, one.entry or one.answer) for one in examples)
    return Known(answers, encoder_of(config, say))


def pinecone_of(inputs: Mapping[str, Artifact], config: Config, say: Callable[[str], None]) -> Retriever:
    """Return the retriever whose vectors Pinecone keeps: those of the index of the encoder as it was found."""
    from tunesmith.retrieving.pinecone import PineconeRetriever

    told, encoder = config.retrieve, encoder_of(config, say)
    return PineconeRetriever(
        plain_index(inputs, config, say),
        encoder,
        index=told.pinecone_index,
        host=told.pinecone_host,
        namespace=told.pinecone_namespace,
    )


def tools_of(inputs: Mapping[str, Artifact], config: Config) -> Toolbox:
    """Return the catalogue's entries as functions that a model may call; answers say of each what derived ones do."""
    from tunesmith.generating.calling import CatalogueTools
    from tunesmith.generating.derive import derive_answers

    catalogue = catalogue_of(inputs)
    derived = derive_answers(documents_of(inputs), catalogue).answers
    sentences = {answer.entry: answer.sentence for answer in derived}
    return CatalogueTools(catalogue, sentences, run=config.tools.run)


def relevance_of(config: Config, load_base: Callable[[], ChatModel], say: Callable[[str], None]) -> Relevance:
    """Return what reranks: the cross-encoder that is named, else the language model as it was found.

    Raises AddressError where that is at a service, which tells nobody how likely a question is.
    """
    from tunesmith.models.address import load_cross_encoder
    from tunesmith.models.likelihood import Likelihood
    from tunesmith.models.local import LocalModel
    from tunesmith.retrieving.reranking import QuestionLikelihood

    if config.retrieve.reranker is not None:
        return load_cross_encoder(config.model_address(config.retrieve.reranker), say=say)
    base = load_base()
    if not isinstance(base, LocalModel):
        raise AddressError(
            f"reranked needs the weights of {base.name}, which a service keeps",
            hint="Name a cross-encoder: [retrieve] reranker.",
        )
    return QuestionLikelihood(Likelihood(base.model, base.tokenizer))


def schema_of(config: Config) -> str:
    """Return the JSON schema in the project's file of it; raises UsageError, SourceError or ConfigError."""
    from tunesmith.operations import validator

    if config.json_schema is None:
        raise UsageError(
            "json holds answers to a JSON schema, and none is named.",
            hint="Name its file in tunesmith.toml: [evaluate] json_schema.",
        )
    file_digest(config, config.json_schema)
    text = (config.folder / config.json_schema).read_text(encoding="utf-8")
    try:
        schema = json.loads(text)
        validator(text)
    except ValueError as error:
        raise ConfigError(
            f"{config.folder / config.json_schema} is no JSON schema: {error}",
            hint="Mend it (draft 2020-12).",
        ) from error
    return json.dumps(schema, ensure_ascii=False)
