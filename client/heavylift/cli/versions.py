"""Known holes in Redis and Valkey that matter to a server which runs Lua scripts and holds jobs."""

from __future__ import annotations

import re

Version = tuple[int, ...]

_OLDEST = {"redis": (7, 0), "valkey": (7, 2)}

_LUA = "CVE-2025-49844"
_BLOCKING = "CVE-2026-23479"
_FIXED_LUA: dict[str, dict[Version, Version]] = {
    "redis": {(6, 2): (6, 2, 20), (7, 2): (7, 2, 11), (7, 4): (7, 4, 6), (8, 0): (8, 0, 4), (8, 2): (8, 2, 2)},
    "valkey": {(7, 2): (7, 2, 11), (8, 0): (8, 0, 6), (8, 1): (8, 1, 4), (9, 0): (9, 0, 0)},
}
"""Branch -> first version without the use-after-free in the Lua engine; branches not listed and older got no fix."""
_BLOCKING_FROM, _BLOCKING_FIXED = (7, 2, 0), (8, 6, 3)
"""Redis's use-after-free in blocking commands."""


def judge_version(server: str, version: str) -> str:
    """Return what is known against a version, empty when nothing is.

    Args:
        server: ``redis`` or ``valkey``.
        version: as the server says it.
    """
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if match is None or server not in _OLDEST:
        return "this version is not known here"
    found = tuple(int(part) for part in match.groups())
    if found[:2] < _OLDEST[server]:
        oldest = ".".join(str(part) for part in _OLDEST[server])
        return f"older than {oldest}, which Heavylift is tested with: upgrade"
    holes = [_LUA] if _lua_open(server, found) else []
    if server == "redis" and _BLOCKING_FROM <= found < _BLOCKING_FIXED:
        holes.append(_BLOCKING)
    if not holes:
        return ""
    return (
        f"{' and '.join(holes)} {'is' if len(holes) == 1 else 'are'} open in this version upstream: upgrade, or make "
        "sure that your distribution has patched it (Debian does so without changing the number)"
    )


def _lua_open(server: str, found: Version) -> bool:
    fixed = _FIXED_LUA[server]
    first = fixed.get(found[:2])
    if first is not None:
        return found < first
    return found[:2] < max(fixed)
