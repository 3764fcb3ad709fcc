"""A store whose scripts take the time from a key of the test, not from the server's clock.

Every script has its time from one line of ``_lib.lua``. Here that one line is replaced in the text before it is sent,
so that nothing in the product knows of another clock; so are the two ways in which scripts leave a time to Redis that
decides what comes next (how long a queue is held back), and those that take members of a set at random. What Redis
expires otherwise (EXPIRE) still goes by the real clock: sequences are over long before.
"""

from __future__ import annotations

import functools
import hashlib
import re
from typing import Any

import redis
from typing_extensions import override

from heavylift.store import Store, scripts
from heavylift.store.joint import Asked, alone
from heavylift.store.steps import Call, Step
from heavylift.store.sync import command

_LINE = "local clock = call('TIME')\n"
_INSTEAD = """local clock = call('HMGET', 'test:clock', 's', 'us')
local test_now = clock[1] * 1000 + floor(clock[2] / 1000)
local function test_left(key) return tonumber(call('GET', key .. ':until') or '0') - test_now end
local function test_hold(key, job, ms) call('MSET', key, job, key .. ':until', string.format('%.0f', ms + test_now)) end
local function test_some(key, most)
  local all, some = call('SMEMBERS', key), {}
  table.sort(all)
  for i = 1, math.min(#all, most) do some[i] = all[i] end
  return some
end
"""
_REPLACED = (
    (re.compile(r"(?:call|try)\('PTTL', K\.hold\(q\)\)"), "test_left(K.hold(q))"),
    (re.compile(r"try\('SET', K\.hold\(q\), x\.job, 'PX', L\.int\(hold\)\)"), "test_hold(K.hold(q), x.job, hold)"),
    (re.compile(r"call\('SRANDMEMBER', ([^\n]+?)\)(?=[) ])"), r"test_some(\1)"),
    (re.compile(r"return call\('SMEMBERS', key\)"), "return test_some(key, 1000)"),
)
_LEFT = re.compile(r"'(?:TIME|PTTL|TTL|PX|EX|S?RANDMEMBER|SPOP)'")


@functools.cache
def _script(name: str) -> tuple[str, str]:
    text = scripts.load(name).text
    if text.count(_LINE) != 1:
        raise AssertionError(f"{name}: the scripts have their time from another line than {_LINE!r}")
    text = text.replace(_LINE, _INSTEAD)
    for there, instead in _REPLACED:
        text = there.sub(instead, text)
    found = _LEFT.search(text)
    if found and name != "lock":
        raise AssertionError(f"{name}: {found.group()} in the scripts follows no clock of a test")
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class ClockedStore(Store):
    """As ``Store``; ``set_time`` says what time it is."""

    def set_time(self, micros: int) -> None:
        """Say what time it is, in microseconds since the epoch."""
        self.redis.hset("test:clock", mapping={"s": micros // 1_000_000, "us": micros % 1_000_000})

    @override
    def _execute(self, step: Step) -> Any:
        if not isinstance(step, Call):
            if step.build(self.keys) == ("TIME",):
                return self.redis.hmget("test:clock", ["s", "us"])
            return self.redis.execute_command(*command(step, self.keys))  # type: ignore[no-untyped-call]
        text, sha = _script(step.script)
        rest = (0, self.keys.rq, self.keys.ours, *step.args)
        try:
            reply = self.redis.execute_command("EVALSHA", sha, *rest)  # type: ignore[no-untyped-call]
        except redis.exceptions.NoScriptError:
            reply = self.redis.execute_command("EVAL", text, *rest)  # type: ignore[no-untyped-call]
        return alone(Asked((), step.most), reply)
