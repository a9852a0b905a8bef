"""What clients are told when something is wrong: OpenAI's error object, whatever went wrong and wherever."""

from __future__ import annotations

import json
from typing import Any

from rebus.errors import EngineClosedError, MissingPackageError, QueueFullError, RebusError

Json = dict[str, Any]


class ServeError(RebusError):
    """A server cannot be started."""


class ApiError(Exception):
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        message: for people; never holds what a decoder or the system said.
        code: for programs.
        param: the part of the request that is wrong.
        retry: seconds after which the same request may work.
    """

    def __init__(
        self, status: int, message: str, code: str | None = None, param: str | None = None, retry: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.retry = status, message, code, param, retry

    @property
    def headers(self) -> dict[str, str]:
        """Those that the status calls for."""
        headers = {} if self.retry is None else {"Retry-After": str(self.retry)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers

    def body(self) -> Json:
        """``{"error": {"message", "type", "param", "code"}}``."""
        return {
            "error": {
                "message": self.message,
                "type": KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error"),
                "param": self.param,
                "code": self.code,
            }
        }

    def encoded(self) -> bytes:
        """The body as sent."""
        return json.dumps(self.body(), ensure_ascii=False).encode("utf-8", "replace")


KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}


class NotReadyError(ApiError):
    """The model is not there to answer, or no longer."""

    def __init__(self, why: str, detail: str = "") -> None:
        texts = {
            "loading": ("the model is still being loaded", "model_loading", 5),
            "draining": ("the server is stopping", "server_stopping", 30),
            "failed": (f"the model could not be loaded. {detail}".strip(), "model_failed", None),
            "none": ("no model is served here", "no_model", None),
        }
        message, code, retry = texts[why]
        super().__init__(503, message, code, retry=retry)


class BusyError(ApiError):
    """As many requests wait as may."""

    def __init__(self, retry: int = 1) -> None:
        message = "the server is busy: too many requests are waiting; try again later"
        super().__init__(429, message, "queue_full", None, retry)


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A request that asks for what cannot be: status 400."""
    return ApiError(400, message, code, param)


def late() -> ApiError:
    """The answer took longer than it may."""
    return ApiError(504, "the answer was not finished in the time that the server allows", "timeout")


def of_rebus(error: RebusError, param: str | None = None) -> ApiError:
    """A user's mistake that the toolkit found in a request, in its four parts."""
    if isinstance(error, QueueFullError):
        return BusyError(max(round(error.retry_after), 1))
    if isinstance(error, EngineClosedError):
        return NotReadyError("draining")
    if isinstance(error, MissingPackageError):
        return ApiError(501, f"{error.where} needs {error.expected} on the server", "not_installed", param)
    return ApiError(400, f"{error.where}: expected {error.expected}; found {error.found}. {error.do}", None, param)
