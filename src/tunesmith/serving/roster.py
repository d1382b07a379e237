"""Which models there are, and what answers for them: engines on this machine, encoders, services behind an address.

A base model is in memory once; the adapters that were tuned on it stand beside each other in its engine. What was not
asked for longest makes room for what is asked for now.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from tunesmith.errors import AddressError, ModelError
from tunesmith.inference.compute import computed_apart
from tunesmith.models.address import Address, Place, is_remote, locate, parse
from tunesmith.serving.errors import ApiError, invalid
from tunesmith.serving.names import address_of
from tunesmith.serving.options import Options
from tunesmith.serving.settling import settle
from tunesmith.serving.store import Store
from tunesmith.serving.tables import Model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunesmith.inference.engine import Engine
    from tunesmith.inference.grammar import Grammars
    from tunesmith.models.classifier import LocalClassifier
    from tunesmith.models.embedding import LocalEncoder

_LOG = logging.getLogger("tunesmith.serving.roster")
_OPENAI: Final = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class Local:
    """A model on this machine: its engine, the adapter that it has there, and how it is talked to."""

    engine: Engine
    adapter: str | None
    tokenizer: PreTrainedTokenizerBase
    grammars: Grammars


@dataclass(frozen=True, slots=True)
class Remote:
    """A model behind another service: its base URL, and its name there."""

    url: str
    model: str


class Roster:
    """The models of one server; threads may share it."""

    def __init__(self, store: Store, options: Options) -> None:
        self._store, self._options = store, options
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._engines: OrderedDict[str, tuple[Engine, Grammars]] = OrderedDict()
        self._encoders: dict[str, LocalEncoder] = {}
        self._classifiers: dict[str, LocalClassifier] = {}
        self._tokenizers: dict[str, PreTrainedTokenizerBase] = {}

    def find(self, organisation: str, name: str) -> Local | Remote:
        """Return what answers for a name, loaded first if need be.

        Raises ApiError: 404 if the organisation has no such model, 400 if it does not answer.
        """
        address = address_of(self._store, self._options, organisation, name)
        if is_remote(address):
            return _remote(parse(address))
        try:
            place = locate(address)
        except AddressError as error:
            raise invalid(f"The model '{name}' cannot answer: {error.message}", param="model") from error
        except ModelError as error:
            raise ApiError(
                503, f"The model '{name}' cannot be loaded: {error.message}", code="model_not_loaded"
            ) from error
        with self._one_at_a_time(str(place.folder)):
            try:
                return self._local(address, place)
            except ModelError as error:
                raise invalid(f"The model '{name}' cannot answer: {error.message}", param="model") from error

    def encoder(self, organisation: str, name: str) -> LocalEncoder | Remote:
        """Return what embeds texts for a name; raises ApiError as `find` does."""
        from tunesmith.models.address import load_encoder

        address = address_of(self._store, self._options, organisation, name)
        if is_remote(address):
            return _remote(parse(address))
        with self._one_at_a_time(address):
            if address not in self._encoders:
                try:
                    self._encoders[address] = computed_apart(
                        lambda: load_encoder(address, max_length=self._options.embedded_tokens)
                    )
                    settle()
                except (AddressError, ModelError) as error:
                    raise invalid(
                        f"The model '{name}' cannot embed texts: {error.message}", param="model"
                    ) from error
            return self._encoders[address]

    def classifier(self, organisation: str, name: str) -> LocalClassifier | Remote:
        """Return what judges texts for a name; raises ApiError as `find` does."""
        from tunesmith.models.address import load_classifier

        address = address_of(self._store, self._options, organisation, name)
        if is_remote(address):
            return _remote(parse(address))
        with self._one_at_a_time(address):
            if address not in self._classifiers:
                try:
                    self._classifiers[address] = computed_apart(lambda: load_classifier(address))
                    settle()
                except (AddressError, ModelError) as error:
                    raise invalid(
                        f"The model '{name}' cannot judge texts: {error.message}", param="model"
                    ) from error
            return self._classifiers[address]

    def tuned(self, organisation: str) -> list[Model]:
        """Return the models that an organisation has tuned, newest first."""
        query = select(Model).where(Model.organisation == organisation).order_by(Model.number.desc())
        return self._store.all(query)

    def forget(self, address: str) -> None:
        """Take a tuned model out of memory: its answers in the making end."""
        with self._lock:
            engines = list(self._engines.items())
        for _, (engine, _) in engines:
            if address in engine.mixture.names:
                engine.remove_adapter(address)
        with self._lock:
            own = self._engines.pop(address, None)
        engines.clear()
        _end([] if own is None else [own[0]])
        self._tokenizers.pop(address, None)

    def loads(self) -> Iterator[tuple[str, Any]]:
        """Yield each engine's name and load."""
        with self._lock:
            engines = [engine for engine, _ in self._engines.values()]
        for engine in engines:
            yield engine.name, engine.load

    def close(self) -> None:
        """End all engines."""
        with self._lock:
            engines = [engine for engine, _ in self._engines.values()]
            self._engines.clear()
        for engine in engines:
            engine.close()

    def _local(self, address: str, place: Place) -> Local:
        from tunesmith.inference.adapters import CannotShare

        if place.adapter is None:
            engine, grammars = self._engine(str(place.folder), place.folder, None)
            return Local(engine, None, engine.tokenizer, grammars)
        if address not in self._engines:
            engine, grammars = self._engine(str(place.folder), place.folder, None)
            try:
                if address not in engine.mixture.names:
                    engine.add_adapter(address, place.adapter, place.folder)
            except CannotShare as error:
                _LOG.info("adapter merged into a copy of its base", extra={"reason": error.message})
            else:
                return Local(engine, address, self._tokenizer(address, place), grammars)
        engine, grammars = self._engine(address, place.folder, place.adapter)
        return Local(engine, None, engine.tokenizer, grammars)

    def _tokenizer(self, address: str, place: Place) -> PreTrainedTokenizerBase:
        """Return an adapter's tokenizer: its base's, with the chat template that it was trained with."""
        from tunesmith.models.local import load_tokenizer

        if address not in self._tokenizers:
            self._tokenizers[address] = load_tokenizer(place.folder, adapter=place.adapter)
        return self._tokenizers[address]

    def _engine(self, key: str, folder: Path, adapter: Path | None) -> tuple[Engine, Grammars]:
        from tunesmith.inference.engine import Engine
        from tunesmith.inference.grammar import Grammars
        from tunesmith.models.local import load_model, load_tokenizer

        with self._lock:
            if key in self._engines and self._engines[key][0].closed:
                del self._engines[key]
            if key in self._engines:
                self._engines.move_to_end(key)
                return self._engines[key]
        self._make_room()
        _LOG.info("loading a model", extra={"folder": folder.name})

        def load() -> Engine:
            model = load_model(folder, adapter=adapter)
            tokenizer = load_tokenizer(folder, adapter=adapter)
            return Engine(model, tokenizer, name=folder.name, most_rows=self._options.most_rows)

        engine = computed_apart(load)
        settle()
        with self._lock:
            self._engines[key] = engine, Grammars(engine.tokenizer)
            return self._engines[key]

    def _make_room(self) -> None:
        """End the engines that were not asked for longest, of those that have nothing to do."""
        gone = []
        with self._lock:
            for key, (engine, _) in list(self._engines.items()):
                if len(self._engines) < self._options.most_engines:
                    break
                load = engine.load
                if load.rows == load.waiting == 0:
                    gone.append(self._engines.pop(key)[0])
        _end(gone)

    @contextmanager
    def _one_at_a_time(self, key: str) -> Iterator[None]:
        with self._lock:
            lock = self._loading.setdefault(key, threading.Lock())
        with lock:
            yield


def _end(engines: list[Engine]) -> None:
    """End engines; the list is emptied, so that their weights go as well."""
    if not engines:
        return
    while engines:
        engines.pop().close()
    settle()


def _remote(address: Address) -> Remote:
    # Never the SDK's own default, which may be this very server.
    return Remote((address.url or _OPENAI).rstrip("/"), address.served_as)
