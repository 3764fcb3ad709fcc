"""Field types the custom resources share: durations, quantities, and the base every model stands on."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, WithJsonSchema
from pydantic.alias_generators import to_camel

from heavylift.contract import durations, limits, payload
from heavylift.spec import quantities

DURATION_PATTERN = r"^(0|([0-9]+(ms|s|m|h))+)$"
_DAY_MS = 24 * 3_600_000
_DURATION_MAX_MS = 10 * 365 * 24 * 3_600_000
_LABEL = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,252}")
_EXIT_CODES = range(1, 256)
_MEBIBYTE = 1024**2
_MEMORY_MAX = 1024**5


class Model(BaseModel):
    """Base of all models of a ``spec``: camelCase outside, unknown fields refused, values frozen, types strict."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        validate_by_alias=True,
        validate_by_name=True,
    )


def _duration(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a duration: write a string like 90s, 15m, 1h30m or 168h (no days)")  # noqa: TRY004 - pydantic collects ValueErrors only
    ms = durations.to_ms(value)
    if ms > _DURATION_MAX_MS:
        raise ValueError(f"{value!r} is over ten years: write a shorter duration")
    return ms


def _at_least_a_second(ms: int) -> int:
    if ms < 1000:  # noqa: PLR2004 - a second
        raise ValueError(f"{durations.format_ms(ms)} is too short: use at least 1s")
    return ms


def _at_most_a_day(ms: int) -> int:
    if ms > _DAY_MS:
        raise ValueError(f"{durations.format_ms(ms)} is too long: use at most 24h")
    return ms


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{value!r} is not a quantity: write it like 64Ki")  # noqa: TRY004 - as above
    return quantities.to_bytes(str(value))


def _payload_size(size: int) -> int:
    if not 1 <= size <= limits.PAYLOAD_MAX:
        raise ValueError(
            f"{size} bytes is out of bounds: use 1 to {limits.PAYLOAD_MAX // 1024}Ki, and references for larger inputs"
        )
    return size


def _memory_size(size: int) -> int:
    if not _MEBIBYTE <= size <= _MEMORY_MAX:
        raise ValueError(f"{size} bytes is no amount of memory for a pod: write it like 512Mi or 64Gi")
    return size


def _quantity(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{value!r} is not a quantity: write it like 500m, 2 or 4Gi")  # noqa: TRY004 - as above
    quantities.to_milli(str(value))
    return str(value)


def _label_key(key: str) -> str:
    if not _LABEL.fullmatch(key):
        raise ValueError(f"{key[:60]!r} is not a label key: use [prefix/]name, for example team or example.com/team")
    if key.split("/", maxsplit=1)[0].endswith("heavylift.dev"):
        raise ValueError(f"{key[:60]!r} is reserved: labels under heavylift.dev are written by Heavylift")
    return key


def _env_name(name: str) -> str:
    if not _ENV.fullmatch(name):
        raise ValueError(f"{name[:60]!r} is not a variable's name: use letters, digits and '_'")
    if name.startswith("HEAVYLIFT_JOB_"):
        raise ValueError(f"{name[:60]!r} is reserved: variables named HEAVYLIFT_JOB_* are written by Heavylift")
    return name


def _exit_code(code: int) -> int:
    if code not in _EXIT_CODES:
        raise ValueError(f"{code} is not a failing exit code: use 1 to 255")
    return code


def _not_yet(value: object) -> None:
    if value is not None:
        raise ValueError("is not supported yet: leave it out")


_DURATION_SCHEMA: dict[str, Any] = {"type": "string", "pattern": DURATION_PATTERN, "maxLength": 32}
_QUANTITY_SCHEMA: dict[str, Any] = {"x-kubernetes-int-or-string": True, "pattern": quantities.PATTERN}

DurationMs = Annotated[int, BeforeValidator(_duration), WithJsonSchema(_DURATION_SCHEMA)]
"""Written as a Go-style string, held as integer milliseconds."""
LimitMs = Annotated[
    int, AfterValidator(_at_least_a_second), BeforeValidator(_duration), WithJsonSchema(_DURATION_SCHEMA)
]
"""A duration of at least one second."""
RatePeriodMs = Annotated[
    int,
    AfterValidator(_at_least_a_second),
    AfterValidator(_at_most_a_day),
    BeforeValidator(_duration),
    WithJsonSchema(_DURATION_SCHEMA),
]
"""A duration of one second to a day."""
PayloadBytes = Annotated[
    int, AfterValidator(_payload_size), BeforeValidator(_size), WithJsonSchema({**_QUANTITY_SCHEMA, "maxLength": 16})
]
"""Written as a quantity, held as bytes; at most 100Ki."""
Quantity = Annotated[str, BeforeValidator(_quantity), WithJsonSchema({**_QUANTITY_SCHEMA, "maxLength": 32})]
"""A checked quantity, kept as written (units differ by resource; compare with ``quantities.to_milli``)."""
MemoryBytes = Annotated[
    int, AfterValidator(_memory_size), BeforeValidator(_size), WithJsonSchema({**_QUANTITY_SCHEMA, "maxLength": 32})
]
"""Memory written as a quantity, held as bytes; at least 1Mi, what Kubernetes' runtimes need to start anything."""
LabelKey = Annotated[str, AfterValidator(_label_key), WithJsonSchema({"type": "string", "maxLength": 317})]
EnvName = Annotated[str, AfterValidator(_env_name), WithJsonSchema({"type": "string", "maxLength": 253})]
TaskName = Annotated[
    str,
    AfterValidator(payload.check_task),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": limits.TASK_NAME_MAX}),
]
ErrorName = Annotated[str, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 200})]
ExitCodeNumber = Annotated[
    int, AfterValidator(_exit_code), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 255})
]

NOT_YET = "x-heavylift-not-yet"
"""Marks in a JSON schema a field that is refused by name (never pruned, never ignored) until something honours it."""
LaterString = Annotated[None, BeforeValidator(_not_yet), WithJsonSchema({"type": "string", NOT_YET: True})]
