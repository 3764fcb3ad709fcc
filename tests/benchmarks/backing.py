"""The store under a benchmark: Redis or Valkey, as it comes or as the chart sets it up; a server for each side."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, Literal, get_args

from heavylift.store import Store, ops
from tests.servers import BINARIES, StoreServer, running

Json = dict[str, Any]
StoreName = Literal["redis", "valkey"]
Settings = Literal["defaults", "chart"]
STORES: Final[tuple[StoreName, ...]] = get_args(StoreName)
SETTINGS: Final[tuple[Settings, ...]] = get_args(Settings)
COMPACT: Final = "hash-max-listpack-value"
"""By default a value over 64 bytes takes a hash apart; the chart's line keeps such hashes whole."""

_CHART: Final = Path(__file__).parents[2] / "charts/heavylift/templates/redis.yaml"
_CONF: Final = "  redis.conf: |"
_PLACE: Final = frozenset({"dir", "port", "protected-mode"})
"""Where a server stands, not how it works."""


def chart() -> dict[str, str]:
    """Return the lines of the chart's own redis.conf, but for those about its place and its memory.

    Raises:
        LookupError: the chart's template has no such file, or it does not set how hashes are kept.
    """
    lines = iter(_CHART.read_text("utf-8").splitlines())
    if _CONF not in lines:  # goes on to behind it
        raise LookupError(f"{_CHART} holds no redis.conf")
    pairs = (line.split(maxsplit=1) for line in takewhile(lambda line: line.startswith("    "), lines))
    found = {name: value.strip('"') for name, value in pairs if "{{" not in value and name not in _PLACE}
    if COMPACT not in found:
        raise LookupError(f"{_CHART} does not set {COMPACT}")
    return found


@dataclass(frozen=True, slots=True)
class Backing:
    """Which store all sides of a benchmark get, and how it is set up."""

    store: StoreName = "redis"
    settings: Settings = "defaults"

    @contextlib.contextmanager
    def server(self) -> Iterator[StoreServer]:
        """Give a fresh server."""
        given = chart() if self.settings == "chart" else {}
        with (
            tempfile.TemporaryDirectory() as folder,
            running(BINARIES[self.store](), Path(folder), **given) as server,
        ):
            yield server

    def describe(self) -> Json:
        """Return name and version as a server tells them, and what it answers about each setting of the chart's."""
        with self.server() as server, Store.connect(server.url) as store, contextlib.closing(server.client()) as client:
            report = store.run(ops.server_report())
            told = {name: client.config_get(name)[name] for name in sorted(chart())}
        return {"name": report["server"], "version": report["version"], "setUp": self.settings, "settings": told}


def words(described: Json) -> str:
    """Return what ``Backing.describe`` found, for people."""
    settings = described["settings"]
    kept = (
        f"append-only file, fsync {settings['appendfsync']}" if settings["appendonly"] == "yes" else "nothing on disk"
    )
    how = {"defaults": "at its defaults", "chart": "as the chart sets it up"}[described["setUp"]]
    return f"{described['name'].title()} {described['version']} {how} ({kept}; {COMPACT} {settings[COMPACT]})"
