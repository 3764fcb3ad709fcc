"""A store whose scripts take the time from a key of the test, not from the server's clock.

Every script has its time from one line of ``_lib.lua``. Here that one line is replaced in the text before it is sent,
so that nothing in the product knows of another clock. What Redis itself expires (EXPIRE, PX) still goes by the real
one: sequences are over long before.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import redis
from typing_extensions import override

from heavylift.store import Store, scripts
from heavylift.store.steps import Call, Step
from heavylift.store.sync import command

_LINE = "local clock = call('TIME')\n"
_INSTEAD = "local clock = call('HMGET', 'test:clock', 's', 'us')\n"


@functools.cache
def _script(name: str) -> tuple[str, str]:
    text = scripts.load(name).text
    if text.count(_LINE) != 1 or text.count("'TIME'") != 1:
        raise AssertionError(f"{name}: the scripts have their time from more than one line, or from another one")
    text = text.replace(_LINE, _INSTEAD)
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class ClockedStore(Store):
    """As ``Store``; ``set_time`` says what time it is."""

    def set_time(self, micros: int) -> None:
        """Say what time it is, in microseconds since the epoch."""
        self.redis.hset("test:clock", mapping={"s": micros // 1_000_000, "us": micros % 1_000_000})

    @override
    def _execute(self, step: Step) -> Any:
        if not isinstance(step, Call):
            return self.redis.execute_command(*command(step, self.keys))  # type: ignore[no-untyped-call]
        text, sha = _script(step.script)
        rest = (0, self.keys.rq, self.keys.ours, *step.args)
        try:
            return self.redis.execute_command("EVALSHA", sha, *rest)  # type: ignore[no-untyped-call]
        except redis.exceptions.NoScriptError:
            return self.redis.execute_command("EVAL", text, *rest)  # type: ignore[no-untyped-call]
