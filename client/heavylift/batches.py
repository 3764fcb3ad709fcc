"""The entries of a batch, one after another: what many of them share is checked and written down once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from heavylift.allowed import Admission
from heavylift.contract import ids, payload
from heavylift.dedupe import Dedupe, check_key, dedupe_of
from heavylift.errors import BatchError, HeavyliftError, InvalidInputError, RedisUnavailableError
from heavylift.operations import refusal
from heavylift.options import JobRequest, check_priority, stored_options
from heavylift.requests import admit, check_size, draft, plain_data
from heavylift.store import ops
from heavylift.store.model import Enqueued
from heavylift.store.steps import Ahead, AheadOp, Call

_OWN = frozenset({"id", "priority", "lifo", "key", "dedupe"})
"""What each entry has of its own; all other options, and how it deduplicates, are in its header."""
_SHARED_MAX = 1000


class Maker:
    """Makes the entries of one queue, held against what it admits."""

    def __init__(self, queue: str, admission: Admission, *, strict: bool) -> None:
        self._queue = queue
        self._admission = admission
        self._strict = strict
        self._headers: dict[Any, str] = {}
        self._ids = ids.job_ids()

    def entry(self, request: JobRequest) -> ops.Entry:
        """Return one request as an entry.

        Raises:
            InvalidInputError, PayloadTooLargeError: as of ``requests.draft`` and ``requests.admit``.
        """
        if not isinstance(request, JobRequest):
            raise InvalidInputError(f"it is a {type(request).__name__}: write JobRequest(task, data, ...)")
        task, options = request.task, request.options
        dedupe = dedupe_of(options.get("dedupe"))
        header = self._header(task, options, dedupe)
        plain = plain_data(request.data)
        text = payload.compact(plain)
        check_size(text, self._admission.payload)
        given = options.get("id")
        job = next(self._ids) if given is None else _checked_id(given)
        if given is None and (dedupe is None or dedupe.mode == "first"):
            incarnation = fingerprint = ""  # nobody else means this job, and it takes no other's place
        else:
            incarnation, fingerprint = ids.new_incarnation(), payload.fingerprint_of(task, plain)
        key, held = self._key(options), "" if dedupe is None else dedupe.key
        own = ops.own_parts(job, incarnation, fingerprint, "", (self._priority(options), _lifo(options), key, held))
        return ops.Entry(job, header, own + payload.wrap(task, text), ops.work_of(key))

    def _header(self, task: str, options: Mapping[str, Any], dedupe: Dedupe | None) -> str:
        like: Any = [task]
        for name, value in options.items():
            if name not in _OWN:
                like += (name, type(value), _typed(value) if type(value) is dict else value)
        if dedupe is not None:
            like += (dedupe.mode, type(dedupe.ttl), dedupe.ttl)
        like = tuple(like)
        try:
            found = self._headers.get(like)
        except TypeError:  # a list of dependencies: each has its own
            return self._written(task, options, dedupe)
        if found is None:
            if len(self._headers) >= _SHARED_MAX:
                self._headers.clear()
            found = self._headers[like] = self._written(task, options, dedupe)
        return found

    def _written(self, task: str, options: Mapping[str, Any], dedupe: Dedupe | None) -> str:
        shared = {name: value for name, value in options.items() if name not in _OWN}
        checked = draft(task, None, shared if dedupe is None else {**shared, "dedupe": dedupe})
        return ops.header(admit(checked, self._queue, self._admission, strict=self._strict))

    def _priority(self, options: Mapping[str, Any]) -> int:
        asked = options.get("priority")
        if asked is None:
            return self._admission.priority
        self._admission.check_priority(check_priority(asked))
        return int(asked)

    def _key(self, options: Mapping[str, Any]) -> str:
        key = options.get("key")
        return "" if key is None else check_key("key", key)


def _typed(value: dict[Any, Any]) -> tuple[Any, ...]:
    return tuple((key, type(item), item) for key, item in value.items())  # 1, 1.0 and True are equal


def _lifo(options: Mapping[str, Any]) -> bool:
    return "lifo" in options and bool(stored_options({"lifo": options["lifo"]}))


def _checked_id(given: object) -> str:
    if not isinstance(given, str):
        raise InvalidInputError(f"id is {given!r}: a job id is text")
    return ids.check_job_id(given)


@dataclass(slots=True)
class Batch:
    """What became of a batch, in the order given."""

    accepted: list[Enqueued] = field(default_factory=list)
    errors: list[tuple[int, HeavyliftError]] = field(default_factory=list)
    """By the place of the entry; in any order."""
    _places: deque[int] = field(default_factory=deque)
    """Of entries that are good, and of which it is not known yet what became of them."""
    _parts: deque[list[ops.Entry]] = field(default_factory=deque)
    _read: int = 0
    """Answers."""
    _unknown: int = 0
    """Entries that one error stands for."""

    def made(self, maker: Maker, requests: Sequence[JobRequest]) -> Iterator[ops.Entry]:
        """Yield the entries that are good, and note where they were."""
        for index, request in enumerate(self._given(requests)):
            try:
                entry = maker.entry(request)
            except HeavyliftError as error:
                self.errors.append((index, _at(index, error)))
            except Exception as error:  # noqa: BLE001 - raised by what a user wrote; those before it are enqueued
                unreadable = InvalidInputError(f"entry {index}: reading it failed: {type(error).__name__}: {error}")
                unreadable.__cause__ = error
                self.errors.append((index, unreadable))
            else:
                self._places.append(index)
                yield entry

    def _given(self, requests: Sequence[JobRequest]) -> Iterator[JobRequest]:
        index = 0
        try:
            for request in requests:
                yield request
                index += 1
        except Exception as error:  # noqa: BLE001 - raised by what a user wrote; those before it are enqueued
            unreadable = InvalidInputError(
                f"from entry {index} on: going through the requests failed: {type(error).__name__}: {error}"
            )
            unreadable.__cause__ = error
            self.errors.append((index, unreadable))

    def calls(self, entries: Iterator[ops.Entry]) -> Iterator[Call]:
        """Yield the calls that accept the entries."""
        for part in ops.batches(entries):
            self._parts.append(part)
            yield ops.enqueue_call(part)

    def read(self, answers: Sequence[Any], queue: str) -> None:
        """Note what became of the entries whose answers are there and were not read yet; an error ends them.

        Raises:
            HeavyliftError: the answer is one that is not about Redis being reachable.
        """
        for rows in islice(answers, self._read, None):
            if isinstance(rows, HeavyliftError):
                raise rows
            self._read += 1
            for row, entry in zip(rows, self._parts.popleft(), strict=True):
                index, found = self._places.popleft(), ops.enqueued(entry, row)
                if not found.error:
                    self.accepted.append(found)
                elif error := refusal(found, queue):
                    self.errors.append((index, _at(index, error)))

    def unconfirmed(self, why: RedisUnavailableError, last: int) -> None:
        """Note that of the entries that were not read, up to the last of all, nothing is known."""
        first = self._places[0]
        lost = RedisUnavailableError(f"entries {first} to {last} are not confirmed: {why}")
        self._unknown = last - first + 1 - sum(index > first for index, _ in self.errors)
        self.errors.append((first, lost))

    def refused(self, jobs: Sequence[Any]) -> BatchError | None:
        """Return the error to raise, holding the handles of the accepted jobs; None when all were accepted."""
        if not self.errors:
            return None
        errors = [error for _, error in sorted(self.errors, key=lambda entry: entry[0])]
        refused = len(errors) - (self._unknown > 0)
        counts = {"refused": refused, "not confirmed": self._unknown, "enqueued": len(jobs)}
        said = [f"{count:,} {what}" for what, count in counts.items() if count or what == "enqueued"]
        error = BatchError("of the jobs " + ", ".join(said), errors)
        error.jobs = tuple(jobs)
        return error


def enqueue_many(queue: str, requests: Sequence[JobRequest], *, strict: bool) -> AheadOp[Batch]:
    """Enqueue a batch: entries that are refused do not keep the others out.

    While Redis takes one part of it, the next is made, and the answer to the one before is read.
    """
    batch, answers = Batch(), list[Any]()
    maker = Maker(queue, Admission.of((yield from ops.get_settings(queue))), strict=strict)

    def calls() -> Iterator[Call]:
        for call in batch.calls(batch.made(maker, requests)):
            yield call
            batch.read(answers, queue)

    yield Ahead(calls(), answers)
    try:
        batch.read(answers, queue)
    except RedisUnavailableError as error:
        batch.unconfirmed(error, len(requests) - 1)
    return batch


def _at(index: int, error: HeavyliftError) -> HeavyliftError:
    return type(error)(f"entry {index}: {error}")
