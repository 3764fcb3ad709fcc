"""Failpoints act where and when they are told, and not otherwise."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heavylift.contract import failpoints
from heavylift.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _inert() -> Iterator[None]:
    yield
    failpoints.load({})


def test_inert_unless_set() -> None:
    """Without the variable nothing happens."""
    failpoints.load({})
    for name in failpoints.NAMES:
        failpoints.failpoint(name)


def test_acts_on_the_nth_hit_only() -> None:
    """``@N`` acts once, on that hit."""
    failpoints.load({failpoints.ENV: "store.reply:raise@2, operator.patch.after:drop-reply"})
    failpoints.failpoint("store.reply")
    with pytest.raises(failpoints.FailpointError):
        failpoints.failpoint("store.reply")
    failpoints.failpoint("store.reply")
    with pytest.raises(failpoints.ReplyDroppedError):
        failpoints.failpoint("operator.patch.after")


def test_acts_on_each_hit() -> None:
    """``@*`` acts each time."""
    failpoints.load({failpoints.ENV: "store.reply:raise@*"})
    for _ in range(3):
        with pytest.raises(failpoints.FailpointError):
            failpoints.failpoint("store.reply")


async def test_pause_ends_by_the_file(tmp_path: Path) -> None:
    """A pause tells that it began, lets the loop run and ends when its file appears."""
    failpoints.load({failpoints.ENV: "store.reply:pause", failpoints.ENV_DIR: str(tmp_path)})
    waiting = asyncio.create_task(failpoints.afailpoint("store.reply"))
    while not (tmp_path / "store.reply.hit").exists():  # noqa: ASYNC110 - bounded by the test's timeout
        await asyncio.sleep(0)
    assert not waiting.done()
    (tmp_path / "store.reply.go").touch()
    await asyncio.wait_for(waiting, 10)


def test_kill_is_sigkill() -> None:
    """``kill`` ends the process as a crash does."""
    code = "from heavylift.contract.failpoints import failpoint; failpoint('store.reply'); print('alive')"
    ended = subprocess.run(
        [sys.executable, "-c", code], env={failpoints.ENV: "store.reply:kill"}, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, b"")


@pytest.mark.parametrize("text", ["nope:kill", "store.reply:explode", "store.reply", "store.reply:kill@0", "::"])
def test_wrong_entry_is_named(text: str) -> None:
    """A wrong name, action or form is a configuration error at start."""
    with pytest.raises(ConfigurationError, match=failpoints.ENV):
        failpoints.load({failpoints.ENV: text})


def test_unknown_name_in_the_code() -> None:
    """A place whose name is not registered is an error, not a silent no-op."""
    with pytest.raises(ConfigurationError):
        failpoints.failpoint("nowhere")
