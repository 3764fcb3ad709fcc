"""A watch on Jobs that writes down every one that ever stood in the cluster, across restarts of the API server."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Self

from heavylift.contract.names import Annotation
from tests.proofs.kube import Kube, KubeError, batch
from tests.proofs.waiting import until

Json = dict[str, Any]
PAUSE = 0.1
"""Seconds between tries while the API server is away."""


@dataclass(frozen=True)
class Sighting:
    """One Job seen: ``kind`` is ``ADDED``, ``DELETED``, or ``LISTED`` for those found by listing."""

    kind: str
    uid: str
    name: str
    namespace: str
    job: str
    execution: str
    created: str
    """The API server's creation time, RFC 3339."""
    at: float
    """When it was seen, seconds since the epoch."""


def sighting(kind: str, manifest: Json) -> Sighting:
    """Return what is to be remembered of a Job object."""
    metadata = manifest["metadata"]
    annotations = metadata.get("annotations") or {}
    return Sighting(
        kind=kind,
        uid=metadata["uid"],
        name=metadata["name"],
        namespace=metadata["namespace"],
        job=annotations.get(Annotation.JOB_ID, ""),
        execution=annotations.get(Annotation.EXECUTION, ""),
        created=metadata["creationTimestamp"],
        at=time.time(),
    )


class JobRecorder:
    """Watches one namespace's Jobs in a thread of its own; use it as a context manager, entered before the work."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._path = batch(namespace)
        self._lock = threading.Lock()
        self._sightings: list[Sighting] = []
        self._seen: set[tuple[str, str]] = set()
        self._listed = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"recorder {namespace}", daemon=True)
        self.relists = 0
        """Listings after the first: the watch could not go on where it was."""

    def __enter__(self) -> Self:
        """Start, and return once the first listing is in."""
        self._thread.start()
        if not self._listed.wait(30):
            raise TimeoutError("the API server gave no listing of Jobs within 30 s")
        return self

    def __exit__(self, *_: object) -> None:
        """Stop within a second or so."""
        self._stop.set()
        self._thread.join(10)

    def sightings(self) -> list[Sighting]:
        """Return what was seen so far, oldest first."""
        with self._lock:
            return list(self._sightings)

    def uids(self) -> dict[tuple[str, str], set[str]]:
        """Return (job, execution) -> every UID that was ever seen for it."""
        found: dict[tuple[str, str], set[str]] = defaultdict(set)
        for seen in self.sightings():
            found[seen.job, seen.execution].add(seen.uid)
        return dict(found)

    def catch_up(self, limit: float = 30.0) -> None:
        """Wait until everything that stands in the cluster now has been seen."""
        until(self._complete, "the recorder to see every Job of the cluster", limit=limit)

    def _complete(self) -> bool:
        standing = {item["metadata"]["uid"] for item in self._kube.items(self._path)[0]}
        return standing <= {seen.uid for seen in self.sightings()}

    def _run(self) -> None:
        version = ""
        while not self._stop.is_set():
            try:
                version = version or self._list()
                version = self._watch(version)
            except KubeError as error:
                version = "" if error.status == 410 else version
                self._stop.wait(PAUSE)
            except OSError:
                self._stop.wait(PAUSE)

    def _list(self) -> str:
        items, version = self._kube.items(self._path)
        for item in items:
            self._note("LISTED", item)
        self.relists += self._listed.is_set()
        self._listed.set()
        return version

    def _watch(self, version: str) -> str:
        """Read one watch to its end; return where to go on, empty for "list anew"."""
        for event in self._kube.watch(self._path, version, seconds=5, silence=15.0):
            if self._stop.is_set():
                break
            if event["type"] == "ERROR":
                return ""
            version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] in {"ADDED", "DELETED"}:
                self._note(event["type"], event["object"])
        return version

    def _note(self, kind: str, manifest: Json) -> None:
        seen = sighting(kind, manifest)
        with self._lock:
            first = ("there" if kind == "LISTED" else kind, seen.uid)
            known = {("there", seen.uid), ("ADDED", seen.uid)} & self._seen
            if first in self._seen or (kind == "LISTED" and known):
                return
            self._seen.add(first)
            self._sightings.append(seen)
