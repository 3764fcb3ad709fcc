"""Counting a namespace's Jobs without a gap: by a watch, which has each change in the API server's own order."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Final, Self

from tests.proofs.kube import Kube, KubeError, batch

Json = dict[str, Any]
ENDED: Final = frozenset({"Complete", "Failed"})
_PAUSE_S: Final = 0.1


@dataclass
class Census:
    """The most Jobs that ever stood at once; enter it before the first is created."""

    kube: Kube
    namespace: str
    most: int = 0
    """Whatever had become of them."""
    most_unfinished: int = 0
    """Neither complete nor failed."""
    trouble: str = ""
    """Why the count has a gap; empty = it has none."""
    _standing: set[str] = field(default_factory=set)
    _unfinished: set[str] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """List, then watch from there on in a thread."""
        items, version = self.kube.items(batch(self.namespace))
        for item in items:
            self.take("ADDED", item)
        self._thread = threading.Thread(target=self._run, args=(version,), name="census", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop within some seconds."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10)

    def take(self, kind: str, job: Json) -> None:
        """Count one event of the watch."""
        uid = job["metadata"]["uid"]
        conditions = (job.get("status") or {}).get("conditions") or []
        ended = any(one["type"] in ENDED and one["status"] == "True" for one in conditions)
        self._standing.discard(uid)
        self._unfinished.discard(uid)
        if kind != "DELETED":
            self._standing.add(uid)
            if not ended:
                self._unfinished.add(uid)
        self.most = max(self.most, len(self._standing))
        self.most_unfinished = max(self.most_unfinished, len(self._unfinished))

    def _run(self, version: str) -> None:
        while not self._stop.is_set() and not self.trouble:
            try:
                version = self._watch(version)
            except KubeError as error:
                self.trouble = str(error)
            except OSError:
                self._stop.wait(_PAUSE_S)  # nothing is missed: the next watch goes on from the same version

    def _watch(self, version: str) -> str:
        for event in self.kube.watch(batch(self.namespace), version, seconds=5, silence=15.0):
            if event["type"] == "ERROR":
                self.trouble = f"the watch ended: {event['object'].get('message', event['object'])}"
                break
            version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] in {"ADDED", "MODIFIED", "DELETED"}:
                self.take(event["type"], event["object"])
        return version
