-- All gauges of an install in one step.
-- ARGV: prefix, prefix, install, queues...
-- Returns: JSON {at, inflight, dispatchers, unfinalized, schedules, suspended, due (ms of the tick that waits longest,
-- or -1), queues: {queue: what L.gauges gives + counters}}.
-- With: _gauges.lua
local function n(...)
  local got = try(...)
  return type(got) == 'number' and got or 0
end
local out = { at = NOW, inflight = n('ZCARD', K.inflight(ARGV[3])), unfinalized = n('ZCARD', K.unfinalized(ARGV[3])),
  dispatchers = n('ZCOUNT', K.dispatchers(ARGV[3]), '(' .. L.int(NOW), '+inf'), queues = {}, queue_names = {} }
local schedules = US .. ':schedules'
local due = try('ZRANGEBYSCORE', schedules, '-inf', L.int(NOW), 'WITHSCORES', 'LIMIT', 0, 1)
out.schedules, out.suspended = n('ZCARD', schedules), n('ZCOUNT', schedules, '+inf', '+inf')
local failing = try('ZRANGE', schedules .. '-failing', 0, 0, 'WITHSCORES') -- due, and looked at again later
for _, found in ipairs({ due, failing }) do
  local at = not found.err and L.number(tonumber(found[2]))
  if at and (not out.due or at < out.due) then out.due = at end
end
out.due = out.due or -1
local COUNTERS_MAX = 5000 -- ours are some hundreds; with more of them, which something else wrote, none is told
for i = 4, #ARGV do
  local q = ARGV[i]
  local c = L.gauges(q)
  c.counters = {}
  if L.type(K.counters(q)) == 'hash' and call('HLEN', K.counters(q)) <= COUNTERS_MAX then
    local flat = call('HGETALL', K.counters(q))
    for k = 1, #flat, 2 do c.counters[flat[k]] = L.num(flat[k + 1], 0) end
  end
  out.queues[q] = c
  out.queue_names[#out.queue_names + 1] = q
end
return cjson.encode(out)
