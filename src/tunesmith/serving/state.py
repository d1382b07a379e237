"""What all routes share, and how a route gets at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from tunesmith.guarding.guard import Guard
from tunesmith.serving.access import Access, needs
from tunesmith.serving.blobs import Blobs
from tunesmith.serving.contending import Contenders
from tunesmith.serving.errors import invalid
from tunesmith.serving.figures import Metrics
from tunesmith.serving.home import Home
from tunesmith.serving.jobs import Jobs
from tunesmith.serving.keys import Caller
from tunesmith.serving.limits import Limiter
from tunesmith.serving.names import tuned_model
from tunesmith.serving.options import Options
from tunesmith.serving.roster import Roster
from tunesmith.serving.store import Store


@dataclass(slots=True)
class Services:
    """The parts of a running server; `guard` are the rails around its chat models, if it has a policy."""

    home: Home
    store: Store
    access: Access
    blobs: Blobs
    jobs: Jobs
    roster: Roster
    limiter: Limiter
    metrics: Metrics
    options: Options
    started: int
    contenders: Contenders | None = None
    guard: Guard | None = None

    def contending(self, organisation: str, name: str) -> Contenders | None:
        """Return the project's contenders if a name means one: models go before, for they were named on purpose."""
        if self.contenders is None or name in self.options.models or not self.contenders.knows(name):
            return None
        return None if tuned_model(self.store, organisation, name) is not None else self.contenders

    def refuse_contender(self, organisation: str, name: str) -> None:
        """Raise ApiError (400) for a contender's name where only models answer."""
        if self.contending(organisation, name) is not None:
            raise invalid(
                f"'{name}' is a project's contender and answers chats alone: /v1/chat/completions.",
                param="model",
            )


def services_of(request: Request) -> Services:
    """Return the parts of the server that a request reached."""
    services: Services = request.app.state.services
    return services


Server = Annotated[Services, Depends(services_of)]
# A file serves training, batches and evals alike.
Either = Annotated[Caller, Depends(needs("inference", "fine-tuning"))]
Tuner = Annotated[Caller, Depends(needs("fine-tuning"))]
Asker = Annotated[Caller, Depends(needs("inference"))]
Admin = Annotated[Caller, Depends(needs("admin"))]
