"""Routes whose JSON is read strictly: UTF-8, no NaN, of bounded depth and with bounded numbers (RFC 8259)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pydantic_core
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from tunesmith.serving.errors import Refused, invalid


class StrictRequest(Request):
    """A request whose body is JSON or an error that says where it is not."""

    async def json(self) -> Any:
        """Return the body's value; raises Refused (400) where it is no JSON."""
        if not hasattr(self, "_value"):
            try:
                self._value = pydantic_core.from_json(await self.body(), allow_inf_nan=False)
            except ValueError as error:
                raise Refused(invalid(f"The body is not JSON: {error}.", code="invalid_json")) from error
        return self._value


class StrictRoute(APIRoute):
    """A route that gets strict requests."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of a plain route, given strict requests."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return handle


def api_router(prefix: str, tag: str) -> APIRouter:
    """Return a router for one part of the API."""
    return APIRouter(prefix=prefix, tags=[tag], route_class=StrictRoute)
