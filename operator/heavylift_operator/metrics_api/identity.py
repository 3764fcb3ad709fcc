"""Who asks: the front proxy's headers, believed only beside its certificate; pure.

The rules are kube-apiserver's own request header authentication: the ConfigMap
``kube-system/extension-apiserver-authentication`` says whose certificate vouches for which headers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import unquote

from heavylift_operator.core.reading import child, text

AUTHENTICATED: Final = "system:authenticated"
MASTERS: Final = "system:masters"
_CA: Final = "requestheader-client-ca-file"
_CA_MAX: Final = 500_000
_LIST_MAX: Final = 20_000
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_TCHAR: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Headers(Protocol):
    """A request's headers; names compare without case, a header may come several times."""

    def getall(self, key: str, default: Sequence[str], /) -> Sequence[str]:
        """Return all values of a header, in order."""

    def keys(self) -> Any:
        """Return the names, a repeated one once per value."""


@dataclass(frozen=True, slots=True)
class User:
    """Whom a request is made for."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Sorted by key."""


@dataclass(frozen=True, slots=True)
class FrontProxy:
    """Whose certificates vouch for which headers."""

    ca: str
    """PEM; empty = nobody's."""
    allowed_names: frozenset[str] = frozenset()
    """Common names; none = every one the authority signed."""
    username_headers: tuple[str, ...] = ()
    uid_headers: tuple[str, ...] = ()
    group_headers: tuple[str, ...] = ()
    extra_prefixes: tuple[str, ...] = ()

    def admits(self, common_name: str) -> bool:
        """Return whether a certificate of our authority with this common name may speak for others."""
        return bool(self.ca) and (not self.allowed_names or common_name in self.allowed_names)


NOBODY: Final = FrontProxy(ca="")


def read(config_map: Mapping[str, Any]) -> FrontProxy:
    """Return what the ConfigMap says; ``NOBODY`` without an authority, headers for names or readable allowed names."""
    data = child(config_map, "data")
    allowed = _listed(data, "requestheader-allowed-names")
    proxy = FrontProxy(
        ca=text(data, _CA, _CA_MAX),
        allowed_names=frozenset(allowed or ()),
        username_headers=_headers(data, "requestheader-username-headers"),
        uid_headers=_headers(data, "requestheader-uid-headers"),
        group_headers=_headers(data, "requestheader-group-headers"),
        extra_prefixes=_headers(data, "requestheader-extra-headers-prefix"),
    )
    return proxy if proxy.ca.strip() and proxy.username_headers and allowed is not None else NOBODY


def _listed(data: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    """Return a list of words, empty when it is not there, None when it cannot be read."""
    try:
        found = json.loads(text(data, key, _LIST_MAX) or "[]")
    except ValueError:
        return None
    sound = isinstance(found, list) and all(isinstance(one, str) for one in found)
    return tuple(one for one in found if one) if sound else None


def _headers(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in _listed(data, key) or () if _TCHAR.fullmatch(name.strip()))


def identify(proxy: FrontProxy, common_name: str, headers: Headers) -> User | None:
    """Return whom the front proxy speaks for, None = it does not say, or is none.

    Args:
        proxy: whose word counts.
        common_name: of the connection's verified certificate; empty = it has none.
        headers: of the request.
    """
    if not common_name or not proxy.admits(common_name):
        return None
    name = _first(headers, proxy.username_headers)
    if not name:
        return None
    groups = [group for header in proxy.group_headers for group in headers.getall(header, ())]
    user = User(
        name=name,
        uid=_first(headers, proxy.uid_headers),
        groups=(*groups, *([] if AUTHENTICATED in groups else [AUTHENTICATED])),
        extra=_extra(headers, proxy.extra_prefixes),
    )
    return user if _sound(user) else None


def _first(headers: Headers, names: Sequence[str]) -> str:
    return next((value for name in names for value in headers.getall(name, ()) if value), "")


def _extra(headers: Headers, prefixes: Sequence[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(key.lower() for key in headers.keys()):  # noqa: SIM118 - a multidict's names
        for prefix in prefixes:
            if name.startswith(prefix.lower()) and len(name) > len(prefix):
                key = name[len(prefix) :]
                # The API server keeps a key it cannot decode as it came.
                key = key if _BAD_PERCENT.search(key) else unquote(key, errors="surrogateescape")
                found.setdefault(key, []).extend(headers.getall(name, ()))
                break
    return tuple((key, tuple(values)) for key, values in sorted(found.items()))


def _sound(user: User) -> bool:
    """Return whether every word is text: bytes that are none could be taken for somebody else's name."""
    words = [user.name, user.uid, *user.groups, *(word for key, values in user.extra for word in (key, *values))]
    try:
        "".join(words).encode()
    except UnicodeEncodeError:
        return False
    return True


def reviewed(status: Mapping[str, Any]) -> User | None:
    """Return whom a TokenReview's status names, None = nobody."""
    user = child(status, "user")
    name = text(user, "username")
    if status.get("authenticated") is not True or not name:
        return None
    listed = user.get("groups")
    groups = tuple(one for one in listed if isinstance(one, str)) if isinstance(listed, list) else ()
    extra = tuple(
        (key, tuple(one for one in values if isinstance(one, str)))
        for key, values in sorted(child(user, "extra").items())
        if isinstance(values, list)
    )
    added = () if AUTHENTICATED in groups else (AUTHENTICATED,)
    return User(name=name, uid=text(user, "uid"), groups=(*groups, *added), extra=extra)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request wants to do: read a metric in a namespace, or a path that is none."""

    verb: str
    path: str
    namespace: str = ""
    metric: str = ""


def access_review(user: User, asked: Asked, *, group: str, version: str) -> dict[str, Any]:
    """Return the SubjectAccessReview that asks whether the user may."""
    spec: dict[str, Any] = {
        "user": user.name,
        "groups": list(user.groups),
        "extra": {key: list(values) for key, values in user.extra},
    }
    if user.uid:
        spec["uid"] = user.uid
    if asked.metric:
        spec["resourceAttributes"] = {
            "group": group,
            "version": version,
            "namespace": asked.namespace,
            "resource": asked.metric,
            "verb": asked.verb,
        }
    else:
        spec["nonResourceAttributes"] = {"path": asked.path, "verb": asked.verb}
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
