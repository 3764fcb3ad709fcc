"""An informer lists once, watches from there, and lists anew where it must; against a scripted cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from heavylift.errors import ClusterUnavailableError, HeavyliftError
from heavylift.runtime import logs
from heavylift.runtime.health import Beat
from heavylift.runtime.kube import EXPIRED, KubeStatusError, Listing
from heavylift.runtime.service import Service, StateLine
from heavylift_operator.adapters.cluster import Kind
from heavylift_operator.services.informer import Event, Informer
from tests.unit.worker.fakes import QuickClock

Json = dict[str, Any]


def event(kind: str | None, name: str, version: str) -> Json:
    """Return an event about an object."""
    return {"type": kind, "object": {"metadata": {"name": name, "resourceVersion": version}}}


@dataclass
class Script:
    """A cluster whose listings and watches are written down beforehand; after them the service is told to end."""

    service: Service
    pages: list[list[Listing] | HeavyliftError]
    watches: list[list[Json | HeavyliftError]]
    asked: list[str] = field(default_factory=list)
    """``list``, or the version a watch went on from."""
    at_open: Callable[[], None] = lambda: None

    async def listings(self, *_: Any) -> AsyncIterator[Listing]:
        """Yield the next listing."""
        self.asked.append("list")
        found = self.pages.pop(0)
        if isinstance(found, HeavyliftError):
            raise found
        for page in found:
            yield page

    async def check(self, *_: Any) -> None:
        """Answer a look whether listing is allowed as the next listing would be."""
        self.asked.append("check")
        if self.pages and isinstance(self.pages[0], HeavyliftError):
            raise self.pages.pop(0)  # type: ignore[misc]  # told apart just now

    async def watch(
        self, _kind: Kind, _namespace: str, version: str, opened: Callable[[], None]
    ) -> AsyncIterator[Json]:
        """Yield the next watch's events."""
        self.asked.append(version)
        if not self.watches:
            self.service.end("script over")
            return
        events = self.watches.pop(0)
        if not (events and isinstance(events[0], HeavyliftError)):
            opened()
            self.at_open()
        for found in events:
            if isinstance(found, HeavyliftError):
                raise found
            yield found


def page(*names: str, version: str = "7") -> Listing:
    """Return a page of a listing."""
    return Listing(tuple(event(None, name, "1")["object"] for name in names), version)


@dataclass
class Stand:
    """A informer of a script."""

    script: Script
    informer: Informer
    heard: list[tuple[str | None, str]]

    async def run(self) -> None:
        """Run to the script's end."""
        async with asyncio.timeout(10):
            await self.informer.run()


@pytest.fixture
def make() -> Callable[..., Stand]:
    """Give a function that makes a informer of a script."""

    def made(pages: list[Any], watches: list[Any]) -> Stand:
        service = Service("test", clock=QuickClock())
        script = Script(service, pages, watches)
        heard: list[tuple[str | None, str]] = []

        def hear(found: Event) -> None:
            name = found["object"]["metadata"]["name"]
            if name == "odd":
                raise ValueError(name)
            heard.append((found["type"], name))

        informer = Informer(
            kind=Kind.POD,
            namespace="analytics",
            cluster=script,  # type: ignore[arg-type]
            hear=hear,
            service=service,
            line=StateLine(logs.get("test"), "pods"),
            beat=Beat("pods", 60),
        )
        return Stand(script, informer, heard)

    return made


async def test_what_is_there_comes_first_and_then_what_happens(make: Callable[..., Stand]) -> None:
    """All pages of the listing, then events from its version on; bookmarks only move the place to go on from."""
    watch = [event("ADDED", "c", "8"), event("BOOKMARK", "", "20")]
    stand = make([[page("a"), page("b")]], [watch, [event("DELETED", "c", "21")], [event("NEW", "d", "22")]])

    await stand.run()

    assert stand.heard == [(None, "a"), (None, "b"), ("ADDED", "c"), ("DELETED", "c")]
    assert stand.script.asked == ["list", "7", "20", "21", "22"]
    assert stand.informer.check() == (True, "")


async def test_lost_history_is_listed_anew(make: Callable[..., Stand]) -> None:
    """410, when the watch is asked for or inside it, is no trouble to tell of."""
    gone = KubeStatusError(EXPIRED, "/pods", "too old")
    stand = make([[page("a")], [page("a", version="30")]], [[event("ADDED", "b", "8"), gone]])

    await stand.run()

    assert stand.script.asked == ["list", "7", "list", "30"]
    assert [name for _, name in stand.heard] == ["a", "b", "a"]
    assert stand.informer.line.ok


async def test_a_broken_connection_goes_on_where_it_was(make: Callable[..., Stand]) -> None:
    """Nothing is listed again; the state says what is wrong until a watch is open, whether or not anything happens."""
    lost = ClusterUnavailableError("connection reset")
    stand = make([[page("a")]], [[event("ADDED", "b", "8"), lost], [lost], [KubeStatusError(503, "/pods", "no")], []])
    states: list[bool] = []
    stand.script.at_open = lambda: states.append(stand.informer.line.ok)

    await stand.run()

    assert stand.script.asked == ["list", "7", "8", "8", "8", "8"]
    assert states == [True, True]
    assert stand.informer.check() == (True, "")


async def test_who_may_not_list_says_so_and_recovers(make: Callable[..., Stand]) -> None:
    """Until rights are given the readiness check names what to look at."""
    denied = KubeStatusError(403, "/pods", "forbidden")
    stand = make([denied, [page("a")]], [])
    said: list[str] = []
    listings = stand.script.listings

    def watched(*arguments: Any) -> AsyncIterator[Listing]:
        said.append(stand.informer.check()[1])
        return listings(*arguments)

    stand.script.listings = watched  # type: ignore[method-assign]

    await stand.run()

    assert "were not listed yet" in said[0]
    assert "RoleBinding" in said[1]
    assert stand.informer.check() == (True, "")


async def test_an_odd_object_holds_nobody_up(make: Callable[..., Stand]) -> None:
    """What cannot be read is logged, and the next event comes."""
    stand = make([[page("odd", "a")]], [[event("ADDED", "odd", "8"), event("ADDED", "b", "9")]])

    await stand.run()

    assert [name for _, name in stand.heard] == ["a", "b"]
    assert stand.informer.version == "9"


async def test_a_burst_lets_others_have_their_turn(make: Callable[..., Stand]) -> None:
    """A thousand events at once do not keep an end from being attended to."""
    stand = make([[page()]], [[event("ADDED", f"p{n}", str(n)) for n in range(1000)]])
    turns = 0

    async def other() -> None:
        nonlocal turns
        while not stand.informer.service.stop.is_set():
            turns += 1
            await asyncio.sleep(0)

    await asyncio.gather(stand.run(), other())

    assert len(stand.heard) == 1000
    assert turns >= 50


async def test_what_is_not_ours_to_hear_is_listed_when_it_is(make: Callable[..., Stand]) -> None:
    """Until then only the right to list is looked at, and said; what happens when the turn passes is not told."""
    denied = KubeStatusError(403, "/jobs", "forbidden")
    stand = make([denied, [page("a")], [page("a", "b", version="9")]], [[event("ADDED", "b", "8")]])
    turn = stand.informer.turn = asyncio.Event()
    states: list[tuple[bool, str]] = []
    check = stand.script.check

    async def checked(*arguments: Any) -> None:
        states.append(stand.informer.check())
        await check(*arguments)
        if len(states) in {2, 3}:
            turn.set()

    stand.script.check = checked  # type: ignore[method-assign]
    stand.script.at_open = turn.clear

    await stand.run()

    assert stand.script.asked == ["check", "check", "list", "7", "check", "list", "9"]
    assert stand.heard == [(None, "a"), (None, "a"), (None, "b")]
    assert [ok for ok, _ in states] == [False, False, True]
    assert "RoleBinding" in states[1][1]
    assert stand.informer.check() == (True, "")


async def test_a_refusal_is_an_answer(make: Callable[..., Stand]) -> None:
    """Who is refused reaches the API server; who gets no answer, or the server's own trouble, does not."""
    seen: list[bool] = []
    for trouble in (ClusterUnavailableError("no"), KubeStatusError(403, "/p", "no"), KubeStatusError(503, "/p", "no")):
        stand = make([[page("a")]], [[trouble]])
        watch = stand.script.watch

        def watched(*arguments: Any, watch: Any = watch, informer: Informer = stand.informer) -> AsyncIterator[Json]:
            seen.append(informer.reached)
            return watch(*arguments)  # type: ignore[no-any-return]

        stand.script.watch = watched  # type: ignore[assignment, method-assign]  # takes them as they come
        stand.script.pages.append([page("a")])
        await stand.run()
    assert seen == [True, False, True, True, True, False]
