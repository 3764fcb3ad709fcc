"""Delegated authentication and authorization: the API server is asked, its answers are kept for ten seconds."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Generic, TypeVar

from heavylift.errors import ClusterUnavailableError
from heavylift.runtime.kube import KubeApi
from heavylift_operator.core.reading import child
from heavylift_operator.metrics_api.documents import GROUP, VERSION
from heavylift_operator.metrics_api.identity import MASTERS, Asked, User, access_review, reviewed
from heavylift_operator.metrics_api.status import StatusError

KEPT_S: Final = 10.0
"""As long as Kubernetes' own servers keep an answer, yes or no."""
_KEPT_MAX: Final = 2_048
_REVIEW_LIMIT_S: Final = 5.0
_REVIEWS_AT_ONCE: Final = 8
_REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_TOKENS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_TOKEN_MAX: Final = 16_384

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Answers of the last seconds; the oldest goes when there are too many."""

    def __init__(self, monotonic: Callable[[], float], *, kept_s: float = KEPT_S, most: int = _KEPT_MAX) -> None:
        self._monotonic, self._kept_s, self._most = monotonic, kept_s, most
        self._held: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K) -> tuple[V] | None:
        """Return the answer in a tuple, or None when there is none that is still good."""
        held = self._held.get(key)
        if held is None or self._monotonic() - held[0] >= self._kept_s:
            return None
        return (held[1],)

    def put(self, key: K, value: V) -> V:
        """Keep an answer, and return it."""
        self._held.pop(key, None)
        self._held[key] = (self._monotonic(), value)
        while len(self._held) > self._most:
            self._held.popitem(last=False)
        return value


@dataclass(slots=True)
class Access:
    """Asks the API server who a token is and what a user may do."""

    api: KubeApi
    monotonic: Callable[[], float]
    _allowed: Recent[tuple[User, Asked], tuple[bool, str]] = field(init=False)
    _users: Recent[bytes, User | None] = field(init=False)
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_REVIEWS_AT_ONCE))

    def __post_init__(self) -> None:
        """Make the caches."""
        self._allowed = Recent(self.monotonic)
        self._users = Recent(self.monotonic)

    async def user_of(self, token: str) -> User | None:
        """Return whose bearer token this is, None = nobody's.

        Raises:
            StatusError: 503, the API server cannot be asked.
        """
        if not token or len(token) > _TOKEN_MAX:
            return None
        key = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        if known := self._users.get(key):
            return known[0]
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        return self._users.put(key, reviewed(await self._review(_TOKENS, body)))

    async def check(self, user: User, asked: Asked) -> None:
        """Return when the user may.

        Raises:
            StatusError: 403, the user may not; 503, the API server cannot be asked.
        """
        if MASTERS in user.groups:
            return
        key = (user, asked)
        known = self._allowed.get(key)
        allowed, why = known[0] if known else self._allowed.put(key, await self._ask(user, asked))
        if not allowed:
            what = f"{asked.metric}.{GROUP} in the namespace {asked.namespace}" if asked.metric else asked.path
            raise StatusError(HTTPStatus.FORBIDDEN, f"user {user.name} cannot {asked.verb} {what}{why}")

    async def _ask(self, user: User, asked: Asked) -> tuple[bool, str]:
        status = await self._review(_REVIEWS, access_review(user, asked, group=GROUP, version=VERSION))
        reason = str(status.get("reason") or "")[:300]
        allowed = status.get("allowed") is True and status.get("denied") is not True
        return allowed, f": {reason}" if reason else ""

    async def _review(self, path: str, body: dict[str, Any]) -> Any:
        try:
            async with self._room:
                reply = await self.api.request("POST", path, body=body, timeout=_REVIEW_LIMIT_S)
        except ClusterUnavailableError as error:
            raise StatusError(HTTPStatus.SERVICE_UNAVAILABLE, f"rights cannot be checked: {error}") from error
        if not reply.ok:
            raise StatusError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"rights cannot be checked, the API server answers {reply.status}: {reply.message[:300]} "
                "(the operator's service account needs the ClusterRole system:auth-delegator)",
            )
        return child(reply.object, "status")
