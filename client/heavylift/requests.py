"""From what a producer passes to one EnqueueRequest; pure, and refusing before anything reaches Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heavylift.allowed import Admission
from heavylift.contract import ids, limits, payload
from heavylift.contract.durations import format_ms
from heavylift.contract.plain import to_plain
from heavylift.errors import InvalidInputError, InvalidPayloadError, PayloadTooLargeError
from heavylift.options import IF_EXISTS, duration_ms, stored_options
from heavylift.store.model import EnqueueRequest

_DEPENDENCIES_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A checked job, not yet held against its queue's settings."""

    task: str
    data_json: str
    id: str
    named: bool
    """Whether it may meet another enqueue's job: by its id, or because it takes the place of what its key holds."""
    if_exists: str
    delay_ms: int
    expires_ms: int | None
    depends_on: tuple[str, ...]
    options: dict[str, Any]


def draft(task: str, data: Any, options: Mapping[str, Any]) -> Draft:
    """Return a checked job.

    Args:
        task: its registered name.
        data: a mapping, dataclass or pydantic model; None = no data.
        options: as of ``Queue.enqueue``.

    Raises:
        InvalidInputError: something is not usable; the message names it (InvalidPayloadError with the path).
    """
    own = {key: value for key, value in options.items() if key not in _OF_THE_REQUEST}
    given_id, if_exists = options.get("id"), options.get("if_exists") or "raise"
    if given_id is not None and not isinstance(given_id, str):
        raise InvalidInputError(f"id is {given_id!r}: a job id is text")
    if if_exists not in IF_EXISTS:
        raise InvalidInputError(f"if_exists is {if_exists!r}: use one of {', '.join(IF_EXISTS)}")
    if not isinstance(task, str):
        raise InvalidInputError(f"task is {task!r}: give the registered name as text, or call .enqueue of the task")
    stored = stored_options(own)
    depends_on = _dependencies(options.get("depends_on"), given_id)
    if depends_on and stored.get("dedupe", {}).get("mode") == "keep_last":
        raise InvalidInputError("dedupe with keep_last cannot be combined with depends_on: it orders its jobs itself")
    delay_ms = _delay(options.get("delay"), stored.get("dedupe", {}))
    text = payload.compact(plain_data(data))
    check_size(text, limits.PAYLOAD_MAX)
    return Draft(
        task=payload.check_task(task),
        data_json=text,
        id=ids.check_job_id(given_id) if given_id is not None else ids.new_job_id(),
        if_exists=if_exists,
        named=given_id is not None or stored.get("dedupe", {"mode": "first"})["mode"] != "first",
        delay_ms=delay_ms,
        expires_ms=_expires(options.get("expires"), delay_ms),
        depends_on=depends_on,
        options=stored,
    )


_OF_THE_REQUEST = {"id", "if_exists", "delay", "expires", "depends_on"}


def data_json(data: Any, settings: Mapping[str, Any] | None) -> str:
    """Return the compact JSON of a job's data for a queue.

    Raises:
        InvalidPayloadError: it is not plain JSON; the message has the path.
        PayloadTooLargeError: it is larger than the queue admits.
    """
    text = payload.compact(plain_data(data))
    check_size(text, Admission.of(settings).payload)
    return text


def request(checked: Draft, queue: str, settings: Mapping[str, Any] | None, *, strict: bool) -> EnqueueRequest:
    """Return the request for one queue.

    Raises:
        PayloadTooLargeError: the data is larger than the queue admits.
        InvalidInputError: the queue's owner does not allow an option; the message names it.
    """
    return admit(checked, queue, Admission.of(settings), strict=strict)


def admit(checked: Draft, queue: str, admission: Admission, *, strict: bool, tag: str = "") -> EnqueueRequest:
    """Return the request for one queue whose settings (of this tag) were read already; raises as ``request``."""
    check_size(checked.data_json, admission.payload)
    admission.check(checked.options, checked.delay_ms)
    options = {"priority": admission.priority, **checked.options} if admission.priority else checked.options
    return EnqueueRequest(
        queue=queue,
        task=checked.task,
        data=payload.wrap(checked.task, checked.data_json),
        id=checked.id,
        incarnation=ids.new_incarnation() if checked.named else "",
        if_exists=checked.if_exists,
        fingerprint=payload.fingerprint(checked.task, checked.data_json) if checked.named else "",
        delay_ms=checked.delay_ms,
        expires_ms=checked.expires_ms,
        depends_on=checked.depends_on,
        options=options,
        description=checked.task,
        strict=strict,
        settings_tag=tag,
    )


def plain_data(data: Any) -> dict[str, Any]:
    """Return a job's data as plain JSON.

    Raises:
        InvalidPayloadError: it is none; the message has the path.
    """
    plain = to_plain({} if data is None else data)
    if not isinstance(plain, dict):
        raise InvalidPayloadError(
            f"data is a {type(data).__name__}: pass a mapping (the task's keyword arguments), a dataclass or a model"
        )
    return plain


def check_size(text: str, most: int) -> None:
    """Check the bytes of a job's data.

    Raises:
        PayloadTooLargeError: more than ``most``.
    """
    size = len(text) if text.isascii() else len(text.encode())
    if size > most:
        raise PayloadTooLargeError(
            f"data is {size:,} bytes of JSON, more than the {most:,} a job of this queue may have: store it elsewhere "
            "and pass a reference (URL, object key, path)"
        )


def _delay(value: Any, dedupe: Mapping[str, Any]) -> int:
    if dedupe.get("mode") != "debounce":
        return duration_ms("delay", value) if value else 0
    if value is not None:
        raise InvalidInputError("a debounced job is delayed by the ttl of its Dedupe: leave delay out")
    return int(dedupe["ttl"])


def _expires(value: Any, delay_ms: int) -> int | None:
    if value is None:
        return None
    ms = duration_ms("expires", value)
    if ms == 0:
        raise InvalidInputError("expires is 0: give a positive duration, or leave it out")
    if ms <= delay_ms:
        raise InvalidInputError(
            f"expires is {format_ms(ms)}, but the job may start only {format_ms(delay_ms)} from now: both count from "
            "the enqueue; give a longer expires, or leave it out"
        )
    return ms


def _dependencies(value: Any, own_id: str | None) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        value = (value,)
    if len(value) > _DEPENDENCIES_MAX:
        raise InvalidInputError(f"depends_on has {len(value)} entries, more than {_DEPENDENCIES_MAX}")
    names = [getattr(entry, "id", entry) for entry in value]
    for entry in names:
        if not isinstance(entry, str):
            raise InvalidInputError(f"depends_on has {entry!r}: pass jobs or their ids")
        ids.check_job_id(entry)
        if entry == own_id:
            raise InvalidInputError(f"depends_on has {entry}, the job's own id: a job cannot wait for itself")
    return tuple(dict.fromkeys(names))
