"""Logs: one JSON object a line, or coloured text on a terminal; nothing hostile reaches the reader's screen."""

from __future__ import annotations

import logging
import logging.config
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from heavylift.errors import ConfigurationError

TEXT_MAX: Final = 2_000
"""Characters of one value in a log line; longer ones are cut."""
TRACEBACK_MAX: Final = 8_000
ITEMS_MAX: Final = 50
DEPTH_MAX: Final = 4
LEVELS: Final = ("debug", "info", "warning", "error")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str, limit: int = TEXT_MAX) -> str:
    r"""Return text cut to a length, control characters, bidi overrides and lone surrogates escaped (``\x1b``)."""
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    cut = text if len(text) <= limit else text[:limit] + "..."
    return _CONTROL.sub(lambda hit: hit.group().encode("unicode_escape").decode(), cut)


def _clean_value(value: Any, depth: int = 0) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return clean(value)
        case bytes():
            return clean(value[: TEXT_MAX * 2].decode("utf-8", "replace"))
        case Mapping() if depth < DEPTH_MAX:
            return {
                clean(str(key), 200): _clean_value(item, depth + 1) for key, item in list(value.items())[:ITEMS_MAX]
            }
        case list() | tuple() | set() | frozenset() if depth < DEPTH_MAX:
            return [_clean_value(item, depth + 1) for item in list(value)[:ITEMS_MAX]]
        case _:
            return clean(str(value))


def _sanitize(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Make every value of a log line safe to show; tracebacks keep their line breaks as text."""
    for key, value in list(event.items()):
        if key in {"_record", "_from_structlog", "exc_info", "stack_info"}:
            continue
        event[key] = (
            "\n".join(clean(line) for line in value[-TRACEBACK_MAX:].split("\n"))
            if key == "exception" and isinstance(value, str)
            else _clean_value(value)
        )
    return event


def configure(process: str, level: str = "info") -> None:
    """Send structlog's and the standard library's records to stderr as one stream.

    Args:
        process: name of the process, on every line as ``process``.
        level: ``debug`` | ``info`` | ``warning`` | ``error``.

    Raises:
        ConfigurationError: the level is none of these.
    """
    if level.lower() not in LEVELS:
        raise ConfigurationError(f"HEAVYLIFT_LOG_LEVEL is {clean(level, 40)!r}: use one of {', '.join(LEVELS)}")

    def name_process(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        name_process,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        _sanitize,
    ]
    renderer: Processor = structlog.processors.JSONRenderer(ensure_ascii=False)
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    _configure_stdlib(level, shared, renderer)


def _configure_stdlib(level: str, shared: list[Processor], renderer: Processor) -> None:
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    # Nothing of it is shown, and to find it out for each line costs a tenth of the line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for noisy in ("aiohttp.access", "asyncio", "kubernetes", "rq.worker"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


def get(name: str, **bound: Any) -> FilteringBoundLogger:
    """Return a logger; ``bound`` fields stand on each of its lines."""
    logger: FilteringBoundLogger = structlog.get_logger(name).bind(**bound)
    return logger
