"""Errors as the Kubernetes API writes them: a ``metav1.Status`` whose message reaches the HPA's condition; pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from heavylift.errors import HeavyliftError

REASONS: Final = {
    HTTPStatus.BAD_REQUEST: "BadRequest",
    HTTPStatus.UNAUTHORIZED: "Unauthorized",
    HTTPStatus.FORBIDDEN: "Forbidden",
    HTTPStatus.NOT_FOUND: "NotFound",
    HTTPStatus.METHOD_NOT_ALLOWED: "MethodNotAllowed",
    HTTPStatus.INTERNAL_SERVER_ERROR: "InternalError",
    HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailable",
}
_MESSAGE_MAX: Final = 1_000


class StatusError(HeavyliftError):
    """A request cannot be answered; ``code`` is the HTTP status, the message is for whoever asked."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def status(code: int, message: str) -> dict[str, Any]:
    """Return a failure's body; an HTTP status Kubernetes has no reason for gets an empty one."""
    reason = REASONS.get(HTTPStatus(code), "") if code in REASONS else ""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message[:_MESSAGE_MAX],
        "reason": reason,
        "code": code,
    }
