"""What waits on either side of a benchmark: one task with one piece of data, and how a million such jobs get there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import redis

Json = dict[str, Any]
QUEUE: Final = "bench"
TASK: Final = "app.build_report"
DATA: Final[Json] = {"year": 2026, "region": "north", "kind": "annual", "format": "pdf"}
RETURNED: Final[Json] = {"file": "reports/2026.pdf", "pages": 12}
"""What the task returns."""
RESULT: Final = json.dumps(RETURNED)

_COPY: Final = """
local source, list, prefix, priority, keys = KEYS[1], KEYS[2], ARGV[1], ARGV[4], tonumber(ARGV[5])
local names, created = redis.call('HGETALL', source), redis.call('HGET', source, 'created_at')
local at = {}
for i = 1, #names, 2 do at[names[i]] = i + 1 end
if priority ~= '0' then
  names[#names + 1] = 'hl:priority'
  names[#names + 1] = priority
  redis.call('ZADD', KEYS[3], priority, priority)
end
local keyed
if keys > 0 then
  names[#names + 1] = 'hl:key'
  names[#names + 1] = ''
  keyed = #names
end
for n = tonumber(ARGV[2]), tonumber(ARGV[2]) + tonumber(ARGV[3]) - 1 do
  if keyed then names[keyed] = 'k' .. (n % keys) end
  local id = prefix .. string.format('%08d', n)
  if at['hl:src'] then names[at['hl:src']] = redis.sha1hex(id .. '\\n' .. created) end
  if at['hl:inc'] then names[at['hl:inc']] = string.sub(redis.sha1hex(id .. '\\n' .. created), 1, 16) end
  redis.call('HSET', 'rq:job:' .. id, unpack(names))
  redis.call('RPUSH', list, id)
end
"""
_COPY_STEP: Final = 2_000


def copy_job(
    client: redis.Redis, source: str, count: int, *, prefix: str, priorities: Sequence[int] = (0,), keys: int = 0
) -> None:
    """Put so many waiting jobs like one that is there into the queue, by turns at several priorities and by keys."""
    copy = client.register_script(_COPY)
    step = max(1, min(_COPY_STEP, count // len(priorities)))
    for turn, start in enumerate(range(0, count, step)):
        priority = priorities[turn % len(priorities)]
        level = f"rq:queue:{QUEUE}" + (f"@{priority}" if priority else "")
        named = [f"rq:job:{source}", level, f"heavylift:levels:{QUEUE}"]
        copy(keys=named, args=[prefix, start, min(step, count - start), priority, keys])
