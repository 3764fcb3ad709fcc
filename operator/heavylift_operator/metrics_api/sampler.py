"""Takes the sample that requests are answered from: in each replica by itself, whoever holds the lock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from heavylift.errors import HeavyliftError, RedisUnavailableError
from heavylift.runtime.health import Beat
from heavylift.runtime.link import RedisLink
from heavylift.runtime.service import Service
from heavylift.store import ops
from heavylift_operator.metrics_api.samples import Sample, read
from heavylift_operator.metrics_api.status import StatusError


@dataclass(slots=True, kw_only=True)
class Sampler:
    """Asks the store every ``interval_s`` seconds; requests read from memory, so they cost Redis nothing."""

    link: RedisLink
    service: Service
    install: str
    served: Callable[[], Mapping[str, str] | None]
    """Queue -> namespace of its HeavyQueue; None = not listed yet."""
    interval_s: float
    stale_s: float
    beat: Beat
    sample: Sample | None = None
    trouble: str = "the HeavyQueues are not listed yet"
    """Why the newest attempt gave no sample; empty = it did."""

    async def run(self) -> None:
        """Sample until told to stop."""
        while not self.service.stop.is_set():
            await self.once()
            self.beat.tick()
            await self.service.pause(self.interval_s)

    async def once(self) -> None:
        """Take one sample; a failure leaves the one before."""
        served, taken = self.served(), self.service.clock.monotonic()
        if served is None:
            return
        try:
            snapshot = await self.link.run(ops.snapshot(self.install, sorted(served)))
        except RedisUnavailableError:
            self.trouble = "redis unreachable"  # the link has said more
        except HeavyliftError as error:
            self.trouble = str(error)
        else:
            self.sample, self.trouble = read(snapshot, served, install=self.install, taken=taken), ""

    def newest(self) -> Sample:
        """Return the newest sample.

        Raises:
            StatusError: 503, there is none, or it is older than the limit: no number is better than an old one, and
                nought would be a lie.
        """
        if self.sample is None:
            raise StatusError(HTTPStatus.SERVICE_UNAVAILABLE, f"no sample yet: {self.trouble or 'it is being taken'}")
        age = self.service.clock.monotonic() - self.sample.taken
        if age > self.stale_s:
            why = self.trouble or "sampling is late"
            raise StatusError(HTTPStatus.SERVICE_UNAVAILABLE, f"{why}, last sample {age:.0f} s old")
        return self.sample

    def check(self) -> tuple[bool, str]:
        """Return whether there ever was a sample: later trouble is answered per request, and unreadies nobody."""
        return self.sample is not None, self.trouble
