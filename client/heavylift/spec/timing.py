"""When a schedule ticks: a cron expression in a time zone, or a fixed period; pure.

Daylight saving as Debian's cron has it. A tick at a fixed time of day (neither the minute nor the hour begins with
``*``) happens once a day: one whose local time is skipped comes when the clock has sprung forward (02:30 at 03:00), one
whose local time comes twice comes the first time. An expression with ``*`` in minute or hour follows real time: nothing
in the hour that is skipped, everything again in the hour that comes twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from heapq import heappop, heappush
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from heavylift.contract.durations import format_ms
from heavylift.errors import InvalidInputError

EVERY_MIN_MS: Final = 1000
EVERY_MAX_MS: Final = 366 * 86_400_000
CRON_MAX: Final = 256
"""Characters of an expression."""
TIME_MAX_MS: Final = 7_258_118_400_000
"""The year 2200: no schedule begins or ends later."""
_DAY_MS: Final = 86_400_000
_WINDOWS_MS: Final = (_DAY_MS, 32 * _DAY_MS, 367 * _DAY_MS, 5 * 366 * _DAY_MS, 29 * 366 * _DAY_MS)
"""How far back the newest tick is looked for: a window that is empty lets the next one hold few ticks."""
_SHIFT_S: Final = 3 * 3600
"""No clock is put back by more."""
_FIELDS: Final = 5
_MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_UTC_NAMES: Final = {"UTC", "Etc/UTC"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a schedule ticks; made by ``check_timing``. All times are ms since the epoch, whole seconds."""

    cron: str = ""
    """Five fields, or empty."""
    timezone: str = "UTC"
    """IANA name, for ``cron``."""
    every_ms: int | None = None
    """Period, when there is no ``cron``; aligned to ``start_ms``, else to the epoch."""
    start_ms: int | None = None
    """No tick before."""
    end_ms: int | None = None
    """No tick after."""

    def after(self, ms: int) -> int | None:
        """Return the first tick later than a moment, None when there is none."""
        return next(self._from(ms), None)

    def ticks(self, after: int, until: int) -> Iterator[int]:
        """Yield the ticks later than ``after`` and not later than ``until``, in order."""
        for tick in self._from(after):
            if tick > until:
                return
            yield tick

    def newest(self, after: int, until: int) -> int | None:
        """Return the last tick later than ``after`` and not later than ``until``, at bounded cost."""
        if self.end_ms is not None:
            until = min(until, self.end_ms)
        if self.every_ms is not None:
            base = self.start_ms or 0
            tick = until - (until - base) % self.every_ms
            return tick if tick > after and tick >= base else None
        for window in _WINDOWS_MS:
            begin = max(after, until - window)
            found = None
            for found in self.ticks(begin, until):  # noqa: B007 - the last one is meant
                pass
            if found is not None or begin == after:
                return found
        return None

    def count(self, after: int, until: int, most: int = 1000) -> int:
        """Return how many ticks are later than ``after`` and not later than ``until``; at most ``most``."""
        found = 0
        for _ in self.ticks(after, until):
            found += 1
            if found == most:
                break
        return found

    def _from(self, ms: int) -> Iterator[int]:
        floor = ms if self.start_ms is None else max(ms, self.start_ms - 1)
        found = self._periods(floor) if self.every_ms is not None else self._cron(floor)
        for tick in found:
            if tick > (TIME_MAX_MS if self.end_ms is None else self.end_ms):
                return
            yield tick

    def _periods(self, floor: int) -> Iterator[int]:
        every, base = self.every_ms or EVERY_MIN_MS, self.start_ms or 0
        tick = base + ((floor - base) // every + 1) * every
        while True:
            yield tick
            tick += every

    def _cron(self, floor: int) -> Iterator[int]:
        if floor >= TIME_MAX_MS:
            return
        last, zone = floor // 1000, _zone(self.timezone)
        real_time = zone is not UTC and any(field.startswith("*") for field in self.cron.split()[:2])
        for tick in _real_time(self.cron, last, zone) if real_time else _daily(self.cron, last, zone):
            # Two times of a skipped hour become one moment; from within a doubled hour, its first round is past.
            if tick > last:
                last = tick
                yield tick * 1000


def _daily(cron: str, last: int, zone: tzinfo) -> Iterator[int]:
    """Yield ticks at fixed times of day (s), from about a moment on; cronsim moves those that are skipped."""
    return (int(local.timestamp()) for local in CronSim(cron, datetime.fromtimestamp(last, zone)))


def _real_time(cron: str, last: int, zone: tzinfo) -> Iterator[int]:
    """Yield ticks (s) from about a moment on, in order: each time the clock shows the expression's time of day.

    Local times are taken one by one, without a zone: in zones that shift by half an hour, or at midnight, cronsim would
    lose some. One that comes twice is kept until the times between its rounds are out.
    """
    here = datetime.fromtimestamp(last, zone)
    near, far = (datetime.fromtimestamp(last + side * _SHIFT_S, zone).utcoffset() for side in (-1, 1))
    begin = here.replace(tzinfo=None, fold=0) - timedelta(seconds=0 if near == far else _SHIFT_S)
    kept: list[int] = []
    for local in CronSim(cron, begin):
        rounds = sorted({int(local.replace(tzinfo=zone, fold=fold).timestamp()) for fold in (0, 1)})
        shown = [tick for tick in rounds if datetime.fromtimestamp(tick, zone).replace(tzinfo=None, fold=0) == local]
        while kept and shown and kept[0] < shown[0]:
            yield heappop(kept)
        for tick in shown:
            heappush(kept, tick)


@lru_cache(maxsize=256)
def _zone(name: str) -> tzinfo:
    return UTC if name in _UTC_NAMES else ZoneInfo(name)


def check_timing(
    *, cron: str | None, timezone: str | None, every_ms: int | None, start_ms: int | None, end_ms: int | None
) -> Timing:
    """Return when a schedule ticks.

    Args:
        cron: five fields (minute, hour, day of month, month, day of week) or @hourly, @daily, @weekly, ...
        timezone: IANA name, with ``cron``; None = UTC.
        every_ms: the period instead of ``cron``: whole seconds, 1 s to 366 days.
        start_ms: no tick before it; also what ``every`` is aligned to. Rounded up to a whole second.
        end_ms: no tick after it.

    Raises:
        InvalidInputError: something of it cannot be used, or it would never tick; the message says what to write.
    """
    if (cron is None) == (every_ms is None):
        raise InvalidInputError("a schedule has either cron ('0 9 * * *') or every ('15m'): give one of them")
    if every_ms is not None:
        if timezone is not None:
            raise InvalidInputError("timezone goes with cron only: every counts real time; leave timezone out")
        if not EVERY_MIN_MS <= every_ms <= EVERY_MAX_MS or every_ms % 1000:
            raise InvalidInputError(f"every is {format_ms(every_ms)}: use whole seconds, from 1s to 8784h (366 days)")
    for name, value in (("start", start_ms), ("end", end_ms)):
        if value is not None and not 0 <= value <= TIME_MAX_MS:
            raise InvalidInputError(f"{name} is out of bounds: use a time from 1970 to 2199")
    made = Timing(
        cron="" if cron is None else check_cron(cron),
        timezone=check_timezone(timezone or "UTC"),
        every_ms=every_ms,
        start_ms=None if start_ms is None else -(-start_ms // 1000) * 1000,
        end_ms=end_ms,
    )
    if made.after((made.start_ms or 0) - 1) is None:
        raise InvalidInputError("the schedule would never tick: there is no tick from its start to its end")
    return made


def check_cron(cron: str) -> str:
    """Return a cron expression in five fields, macros written out.

    Raises:
        InvalidInputError: it is none; the message shows the form.
    """
    text = " ".join(cron[: CRON_MAX + 1].split())
    fields = _MACROS.get(text.lower(), text).split()
    form = "write minute, hour, day of month, month and day of week, for example '0 9 * * MON-FRI', or @daily"
    if len(text) > CRON_MAX or len(fields) != _FIELDS:
        raise InvalidInputError(f"the cron expression {text[:60]!r} has not five fields: {form}")
    checked = " ".join("*" if field == "?" else field for field in fields)
    try:
        if next(iter(CronSim(checked, datetime(2000, 1, 1, tzinfo=UTC))), None) is None:
            raise InvalidInputError(f"the cron expression {text[:60]!r} never comes true")
    except (CronSimError, AssertionError, OverflowError) as error:
        raise InvalidInputError(f"the cron expression {text[:60]!r} cannot be read ({error}): {form}") from None
    return checked


def check_timezone(name: str) -> str:
    """Return the name of a time zone.

    Raises:
        InvalidInputError: there is none of that name.
    """
    try:
        if name != "localtime" and len(name) < CRON_MAX:
            _zone(name)
            return name
    except (KeyError, ValueError, OSError):  # not found; not a name; a folder of zones
        pass
    raise InvalidInputError(f"there is no time zone {name[:60]!r}: use an IANA name, for example Europe/Paris or UTC")
