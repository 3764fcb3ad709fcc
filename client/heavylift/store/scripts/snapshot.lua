-- All gauges of an install in one step.
-- ARGV: prefix, prefix, install, queues...
-- Returns: JSON {at, inflight, dispatchers, unfinalized, queues: {queue: counts + paused, cap, owner, counters}}.
local function n(...)
  local got = try(...)
  return type(got) == 'number' and got or 0
end
local out = { at = NOW, inflight = n('ZCARD', K.inflight(ARGV[3])), unfinalized = n('ZCARD', K.unfinalized(ARGV[3])),
  dispatchers = n('ZCOUNT', K.dispatchers(ARGV[3]), '(' .. L.int(NOW), '+inf'), queues = {}, queue_names = {} }
for i = 4, #ARGV do
  local q = ARGV[i]
  local c, set = L.counts(q), L.settings(q)
  local spec = set and set.spec or {}
  c.paused = spec.paused == true or L.type(K.pause(q)) ~= 'none'
  c.cap = L.number(spec.concurrencyMax) or -1
  c.install = set and set.install or ''
  c.counters = {}
  if L.type(K.counters(q)) == 'hash' then
    local flat = call('HGETALL', K.counters(q))
    for k = 1, #flat, 2 do c.counters[flat[k]] = L.num(flat[k + 1], 0) end
  end
  out.queues[q] = c
  out.queue_names[#out.queue_names + 1] = q
end
return cjson.encode(out)
