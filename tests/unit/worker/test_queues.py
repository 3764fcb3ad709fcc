"""The HeavyQueue cache and its watch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from structlog.testing import capture_logs

from heavylift.errors import ClusterUnavailableError
from heavylift.runtime import logs
from heavylift.runtime.health import Beat
from heavylift.runtime.kube import KubeStatusError, Listing
from heavylift.runtime.service import Service, StateLine
from heavylift_worker.queues import QueueCache, QueueWatch
from tests.unit.worker.fakes import QuickClock

Json = dict[str, Any]


def _item(name: str, *, queue: str = "", created: str = "2026-01-01T00:00:00Z", **changes: Any) -> Json:
    generation = changes.pop("generation", 1)
    pod = {"containers": [{"name": "main", "image": changes.pop("image", "x:1")}]}
    metadata = {"name": name, "namespace": "a", "uid": f"u-{name}", "generation": generation}
    spec = {"jobTemplate": {"spec": {"template": {"spec": pod}}}, **({"queue": queue} if queue else {})}
    return {
        "apiVersion": "heavylift.dev/v1alpha1",
        "kind": "HeavyQueue",
        "metadata": {**metadata, "creationTimestamp": created, "resourceVersion": "5", **changes},
        "spec": spec,
    }


def test_list_and_events_keep_it_current() -> None:
    """Listed and added queues serve, deleted ones and those being deleted do not."""
    cache = QueueCache()
    seen: list[dict[str, str]] = []
    cache.changed = lambda: seen.append(cache.serving())

    cache.replace("a", [_item("one"), _item("two")])
    cache.apply("a", {"type": "ADDED", "object": _item("three")})
    cache.apply("a", {"type": "DELETED", "object": _item("one")})
    cache.apply("a", {"type": "MODIFIED", "object": _item("two", deletionTimestamp="2026-01-02T00:00:00Z")})
    cache.apply("a", {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}})
    cache.replace("a", [])

    assert [sorted(serving) for serving in seen] == [
        ["one", "two"],
        ["one", "three", "two"],
        ["three", "two"],
        ["three"],
        [],
    ]


def test_oldest_of_a_name_serves() -> None:
    """Of two HeavyQueues of one RQ queue the older one is used."""
    cache = QueueCache()
    cache.replace("a", [_item("young", queue="q", created="2026-02-01T00:00:00Z"), _item("old", queue="q")])

    found = cache.queue("q", "a")

    assert found is not None
    assert found.name == "old"
    assert cache.serving() == {"q": "a"}
    assert cache.queue("q", "b") is None


def test_new_generation_replaces_and_status_does_not() -> None:
    """An edited spec is taken; an event that changed the status only is not parsed again."""
    renewed: list[tuple[str, int]] = []
    cache = QueueCache(renewed=lambda found: renewed.append((found.queue, found.generation)))
    cache.replace("a", [_item("one")])
    before = cache.queue("one", "a")

    cache.apply("a", {"type": "MODIFIED", "object": _item("one")})
    assert cache.queue("one", "a") is before
    cache.apply("a", {"type": "MODIFIED", "object": _item("one", generation=2, image="x:2")})

    after = cache.queue("one", "a")
    assert after is not None
    assert after.generation == 2
    assert renewed == [("one", 1), ("one", 2)]


def test_unsound_queue_is_told_once_and_not_served() -> None:
    """A HeavyQueue that cannot be parsed is left out with its reason until it is mended."""
    cache = QueueCache()
    broken = _item("one", generation=2)
    broken["spec"]["jobTemplate"]["spec"]["backoffLimit"] = 3

    with capture_logs() as lines:
        cache.log = logs.get("queues")
        cache.replace("a", [_item("one")])
        cache.apply("a", {"type": "MODIFIED", "object": broken})
        cache.replace("a", [broken])
        assert cache.serving() == {}
        cache.apply("a", {"type": "MODIFIED", "object": _item("one", generation=3)})

    assert cache.serving() == {"one": "a"}
    assert [line["log_level"] for line in lines] == ["error", "info"]
    assert "backoffLimit" in lines[0]["why"]


@dataclass
class _Api:
    """Lists and watches by script: values or exceptions."""

    service: Service
    lists: list[Any]
    watches: list[list[Any]] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)

    async def list(self, _path: str) -> Listing:
        if not self.lists:
            self.service.end("script over")
            return Listing((), "")
        answer = self.lists.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Listing(tuple(answer), "5")

    async def watch(self, _path: str, *, resource_version: str, timeout_seconds: int) -> AsyncIterator[Json]:
        assert timeout_seconds > 0
        self.versions.append(resource_version)
        if not self.watches:
            self.service.end("script over")
            return
        for event in self.watches.pop(0):
            if isinstance(event, Exception):
                raise event
            yield event


def _watch(lists: list[Any], *watches: list[Any]) -> tuple[QueueWatch, _Api]:
    service = Service("test", clock=QuickClock())
    api = _Api(service, lists, list(watches))
    line = StateLine(logs.get("t"), "kubernetes, namespace a")
    watch = QueueWatch("a", api, QueueCache(), service, line, Beat("watch", 60))  # type: ignore[arg-type]
    return watch, api


async def test_watch_goes_on_where_it_stopped() -> None:
    """A watch that ends is taken up at the last version seen, bookmarks included; 410 lists again."""
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}
    watch, api = _watch(
        [[_item("one")], [_item("two")]],
        [{"type": "ADDED", "object": _item("x")}, bookmark],
        [KubeStatusError(410, "/p", "too old")],
        [],
    )

    await watch.run()

    assert api.versions == ["5", "9", "5", "5"]
    assert watch.cache.serving() == {"two": "a"}
    assert watch.check() == (True, "")


async def test_no_rights_or_no_crds_serve_nothing_and_say_so() -> None:
    """Refused, the namespace's queues are not served and readiness says what to do; it mends itself."""
    refused = KubeStatusError(403, "/p", "forbidden")
    watch, _ = _watch([[_item("one")], refused, refused], [KubeStatusError(404, "/p", "not found")])
    told: list[tuple[bool, str]] = []
    watch.cache.changed = lambda: told.append(watch.check())

    with capture_logs() as lines:
        watch.line = StateLine(logs.get("t"), "kubernetes, namespace a")
        await watch.run()

    errors = [line["event"] for line in lines if line["log_level"] == "error"]
    assert len(errors) == 2
    assert "install Heavylift's CRDs" in errors[0]
    assert "check the Role and RoleBinding" in errors[1]
    assert watch.check() == (True, "")
    assert watch.cache.serving() == {}


async def test_broken_connection_keeps_what_is_known() -> None:
    """Without a connection the queues known stay served, while readiness says what is wrong."""
    watch, _ = _watch([[_item("one")]], [ClusterUnavailableError("no answer")], [ClusterUnavailableError("no answer")])
    states: list[tuple[bool, list[str]]] = []
    sleep = watch.service.clock.sleep

    async def sleeping(seconds: float) -> None:
        states.append((watch.check()[0], sorted(watch.cache.serving())))
        await sleep(seconds)

    watch.service.clock.sleep = sleeping  # type: ignore[method-assign]
    await watch.run()

    assert states[:2] == [(False, ["one"]), (False, ["one"])]
