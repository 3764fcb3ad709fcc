"""Log lines: one JSON object each, nothing hostile in them."""

from __future__ import annotations

import json
import logging

import pytest

from heavylift.errors import ConfigurationError
from heavylift.runtime import logs


@pytest.fixture(autouse=True)
def _restore_logging() -> object:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield None
    root.handlers[:], root.level = handlers, level


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_one_json_line_with_bound_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """A line carries the process, the level, the time and what was bound."""
    logs.configure("dispatcher")

    logs.get("loop", worker="w1").info("claimed", count=3)

    (line,) = _lines(capsys)
    assert (line["process"], line["event"], line["worker"], line["count"]) == ("dispatcher", "claimed", "w1", 3)
    assert line["level"] == "info"
    assert str(line["time"]).endswith("Z")


def test_hostile_text_is_escaped_and_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape codes, newlines, bidi overrides, lone surrogates and endless text do not reach the screen."""
    logs.configure("dispatcher")

    logs.get("loop").warning(
        "job \x1b[31mred\n{}", job="a\u202eb\udc80" + "x" * 9000, raw=b"\xff\x00", deep={"k": ["\r"]}
    )

    (line,) = _lines(capsys)
    assert line["event"] == "job \\x1b[31mred\\n{}"
    assert str(line["job"]).startswith("a\\u202eb\\udc80")
    assert len(str(line["job"])) < 2100
    assert line["raw"] == "\N{REPLACEMENT CHARACTER}\\x00"
    assert line["deep"] == {"k": ["\\r"]}


def test_standard_library_records_join_the_stream(capsys: pytest.CaptureFixture[str]) -> None:
    """Libraries that use ``logging`` come out in the same form, tracebacks in a field of their own."""
    logs.configure("operator", "warning")

    logging.getLogger("kopf").info("too quiet")
    try:
        int("boom")
    except ValueError:
        logging.getLogger("kopf").exception("failed %s", "\x07")

    (line,) = _lines(capsys)
    assert line["event"] == "failed \\x07"
    assert "ValueError: invalid literal" in str(line["exception"])


def test_unknown_level_is_refused() -> None:
    """A wrong level names the right ones."""
    with pytest.raises(ConfigurationError, match="debug, info, warning, error"):
        logs.configure("dispatcher", "loud")
