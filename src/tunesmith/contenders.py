"""A contender's name ("tuned+tuned_retrieval+constrained") to the model it means.

A name is parts joined by "+", in any order: `base`, `tuned` or an adapter's name says which weights (base if none
is there), the others what is put around them. From the inside out: the grammar (`constrained`, `json`), `tools`, the
passages of a retriever (`retrieval` or another, `reranked`, with `citations`), the example turns (`few_shot`,
`nearest_shots`). `classifier` stands alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn

from tunesmith.errors import AddressError
from tunesmith.evaluating.names import adapter_of, check_name, retriever_of
from tunesmith.inference.grammar import JSON, Grammars
from tunesmith.models.base import ChatModel, Retriever
from tunesmith.models.citations import citing
from tunesmith.models.known import EmbeddingClassifier, Known, nearest_shots
from tunesmith.models.local import Constraint, LocalModel
from tunesmith.models.tools import Hold, Toolbox, ToolSettings, calling
from tunesmith.models.wrappers import few_shot, in_schema, retrieving
from tunesmith.records import Conversation
from tunesmith.retrieving.reranking import Relevance, Reranking


def _missing() -> NoReturn:
    raise AddressError(
        "this contender needs a part that nothing here makes",
        hint="Ask it in a project whose stages are done.",
    )


@dataclass
class Workshop:
    """What contenders are put together from; each part is made when a contender first needs it.

    `load_adapted` has the models with an adapter from elsewhere, by the adapter's name; `load_retrievers` those
    retrievers that are neither plain nor tuned, by the part's name. `load_known` gives the training examples,
    `load_relevance` what reranks the first `rerank_depth` passages, `load_schema` the JSON schema of answers as text,
    and `load_toolbox` the functions that may be called, as `tools` says.
    """

    load_base: Callable[[], ChatModel]
    load_tuned: Callable[[], ChatModel]
    load_retriever: Callable[[], Retriever]
    load_tuned_retriever: Callable[[], Retriever]
    load_constraint: Callable[[LocalModel], Callable[[Conversation], Constraint]]
    shots: tuple[Conversation, ...]
    passages: int
    load_adapted: Mapping[str, Callable[[], ChatModel]] = field(default_factory=dict)
    load_retrievers: Mapping[str, Callable[[], Retriever]] = field(default_factory=dict)
    load_known: Callable[[], Known] = _missing
    load_relevance: Callable[[], Relevance] = _missing
    load_schema: Callable[[], str] = _missing
    load_toolbox: Callable[[], Toolbox] = _missing
    rerank_depth: int = 10
    tools: ToolSettings = field(default_factory=ToolSettings)
    _adapted: dict[str, ChatModel] = field(default_factory=dict)
    _retrievers: dict[str, Retriever] = field(default_factory=dict)

    @cached_property
    def base(self) -> ChatModel:
        """The model as it was found."""
        return self.load_base()

    @cached_property
    def tuned(self) -> ChatModel:
        """The model with the adapter merged into it, or the one that a service made of it."""
        return self.load_tuned()

    @cached_property
    def retriever(self) -> Retriever:
        """BM25 and the encoder as it was found."""
        return self.load_retriever()

    @cached_property
    def tuned_retriever(self) -> Retriever:
        """The tuned encoder."""
        return self.load_tuned_retriever()

    @cached_property
    def known(self) -> Known:
        """The training questions with their answers."""
        return self.load_known()

    @cached_property
    def relevance(self) -> Relevance:
        """What reranks."""
        return self.load_relevance()

    @cached_property
    def toolbox(self) -> Toolbox:
        """The functions that may be called."""
        return self.load_toolbox()

    @cached_property
    def classifier(self) -> ChatModel:
        """The answers of the training questions as classes."""
        return EmbeddingClassifier(self.known)

    def build(self, name: str, retriever: Retriever | None = None) -> ChatModel:
        """Return the model that a contender's name means; raises AddressError for a name that means none.

        `retriever` takes the place of the one that the name means, reranking included.
        """
        parts = check_name(name, self.load_adapted)
        if "classifier" in parts:
            return self.classifier
        if "tools" in parts:
            return self._calling(name, retriever or self.retriever_for(name))
        model = self._held(name, self._weights(name))
        if retriever_of(name) is not None:
            show = citing if "citations" in parts else retrieving
            model = show(model, retriever or self.retriever_for(name), count=self.passages)
        if "nearest_shots" in parts:
            return nearest_shots(model, self.known, count=len(self.shots))
        return few_shot(model, self.shots) if "few_shot" in parts else model

    def retriever_for(self, name: str) -> Retriever:
        """Return the retriever that a contender's name means, reranked if it says so; it must mean one."""
        part = retriever_of(name)
        if part == "tuned_retrieval":
            found = self.tuned_retriever
        elif part is None or part == "retrieval":
            found = self.retriever
        else:
            found = self._retrievers.get(part) or self._retrievers.setdefault(
                part, self.load_retrievers[part]()
            )
        if "reranked" not in name.split("+"):
            return found
        return Reranking(found, self.relevance, self.rerank_depth)

    def _calling(self, name: str, retriever: Retriever) -> ChatModel:
        """Return the model that calls functions, its calls held to their schemas if its name says so."""
        model, told = self._weights(name), self.tools
        hold = self._holds_calls(name, model) if "constrained" in name.split("+") else None
        return calling(model, self.toolbox, retriever, count=told.count, rounds=told.rounds, hold=hold)

    def _holds_calls(self, name: str, model: ChatModel) -> Hold:
        grammars = Grammars(_local(name, model).tokenizer)
        # Rules that the engine does not know are left to the check of the call.
        loosely = {"x-guidance": JSON | {"lenient": True}}

        def hold(told: ChatModel, schema_of: Callable[[Conversation], dict[str, Any]]) -> ChatModel:
            here = _local(name, told)
            return here.constrained(lambda one: grammars.of_schema(schema_of(one) | loosely), name)

        return hold

    def _held(self, name: str, model: ChatModel) -> ChatModel:
        """Return the model held to the catalogue's calls or to a schema's JSON, if its name says so."""
        parts = name.split("+")
        if "constrained" in parts:
            here = _local(name, model)
            return here.constrained(self.load_constraint(here), name)
        if "json" not in parts:
            return model
        schema = self.load_schema()
        if isinstance(model, LocalModel):
            grammars = Grammars(model.tokenizer)
            held = json.loads(schema)
            model = model.constrained(lambda _: grammars.of_schema(held), name)
        return in_schema(model, schema)

    def adapted(self, adapter: str) -> ChatModel:
        """Return the model with an adapter from elsewhere merged into it."""
        if adapter not in self._adapted:
            self._adapted[adapter] = self.load_adapted[adapter]()
        return self._adapted[adapter]

    def _weights(self, name: str) -> ChatModel:
        adapter = adapter_of(name)
        if adapter is not None:
            return self.adapted(adapter)
        return self.tuned if "tuned" in name.split("+") else self.base


def _local(name: str, model: ChatModel) -> LocalModel:
    """Return a model whose weights are here; raises AddressError for another."""
    if not isinstance(model, LocalModel):
        raise AddressError(
            f"{name!r} needs the weights of {model.name}, which a service keeps",
            hint="Leave constrained out: only a model that is here can be kept to the catalogue.",
        )
    return model
