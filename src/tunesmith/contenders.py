"""A contender's name ("tuned+tuned_retrieval+constrained") to the model it means.

A name is parts joined by "+", in any order: `base`, `tuned` or an adapter's name says which weights (base if none
is there), `few_shot`, `retrieval` or `tuned_retrieval`, and `constrained` what is put around them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from tunesmith.errors import AddressError
from tunesmith.evaluating.names import adapter_of, check_name
from tunesmith.models.base import ChatModel, Retriever
from tunesmith.models.local import Constraint, LocalModel
from tunesmith.models.wrappers import few_shot, retrieving
from tunesmith.records import Conversation


@dataclass
class Workshop:
    """What contenders are put together from; each part is made when a contender first needs it.

    `load_adapted` has the models with an adapter from elsewhere, by the adapter's name.
    """

    load_base: Callable[[], ChatModel]
    load_tuned: Callable[[], ChatModel]
    load_retriever: Callable[[], Retriever]
    load_tuned_retriever: Callable[[], Retriever]
    load_constraint: Callable[[LocalModel], Callable[[Conversation], Constraint]]
    shots: tuple[Conversation, ...]
    passages: int
    load_adapted: Mapping[str, Callable[[], ChatModel]] = field(default_factory=dict)
    _adapted: dict[str, ChatModel] = field(default_factory=dict)

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

    def build(self, name: str, retriever: Retriever | None = None) -> ChatModel:
        """Return the model that a contender's name means; raises AddressError for a name that means none.

        `retriever` takes the place of the one that the name means.
        """
        parts = check_name(name, self.load_adapted)
        model = self._weights(name)
        if "constrained" in parts:
            if not isinstance(model, LocalModel):
                raise AddressError(
                    f"{name!r} needs the weights of {model.name}, which a service keeps",
                    hint="Leave constrained out: only a model that is here can be kept to the catalogue.",
                )
            model = model.constrained(self.load_constraint(model), name)
        if "tuned_retrieval" in parts:
            model = retrieving(model, retriever or self.tuned_retriever, count=self.passages)
        elif "retrieval" in parts:
            model = retrieving(model, retriever or self.retriever, count=self.passages)
        return few_shot(model, self.shots) if "few_shot" in parts else model

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
