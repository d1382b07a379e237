"""Errors as OpenAI's API words them: status, message, type, param and code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.exceptions import HTTPException

from tunesmith.errors import TunesmithError

_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}


class ApiError(TunesmithError):
    """A request that is answered with an error; `param` names the field at fault.

    `retry` False tells the SDK not to try again, which it otherwise does at 408, 409, 429 and 5xx.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str | None = None,
        retry: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.kind = kind or _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
        self.headers = dict(headers or {})
        if retry is not None:
            self.headers["x-should-retry"] = "true" if retry else "false"

    def body(self) -> dict[str, Any]:
        """Return the error as it travels."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def invalid(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """Return the error of a request whose field is wrong."""
    return ApiError(400, message, param=param, code=code)


def not_found(what: str, name: str, *, param: str | None = None) -> ApiError:
    """Return the error of a thing that is not there, or that belongs to another organisation: the same words."""
    return ApiError(
        404,
        f"No {what} found with id '{name}'.",
        param=param,
        code="model_not_found" if what == "model" else "not_found",
        kind="invalid_request_error",
    )


def conflict(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """Return the error of a thing whose state does not allow what is asked; trying again would not help."""
    return ApiError(409, message, param=param, code=code, retry=False)


def no_room(what: str) -> ApiError:
    """Return the error of a full disk."""
    return ApiError(
        507,
        f"There is no room on the server's disk for {what}. Nothing was changed; free some space and try again.",
        code="disk_full",
        retry=False,
    )


class Refused(HTTPException):
    """An ApiError that goes through FastAPI unchanged: it takes whatever else ends the reading of a body for a 400."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.status, error.message)
        self.error = error
