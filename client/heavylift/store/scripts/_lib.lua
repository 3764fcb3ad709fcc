-- Helpers every script begins with. ARGV[1] = RQ's key prefix, ARGV[2] = ours; each script's own arguments follow.
--
-- Rules all scripts keep (Lua does not roll back):
--   * read and check everything first; then write the essential keys, whose types were checked, beginning with a
--     command that Redis refuses when it is out of memory; take an id from its list last;
--   * secondary keys (events, counters, registries of RQ's tools, indexes) are written with redis.pcall: a wrong type
--     there costs that entry, never the transition;
--   * Redis TIME is the only clock; users' JSON stays text and is spliced, never decoded and encoded again.
local RQ, US = ARGV[1], ARGV[2]
local call, try = redis.call, redis.pcall
local floor, max, min = math.floor, math.max, math.min
local L, K = {}, {}
-- Of rarely used helpers, what makes them, by name.
local ROOMS = {}
setmetatable(L, { __index = function(_, name)
  local open = ROOMS[name]
  if open then open() end
  return rawget(L, name)
end })
local clock = call('TIME')
local NOW = clock[1] * 1000 + floor(clock[2] / 1000)
local NOW_S = floor(NOW / 1000)

-- Keys: the same as heavylift.contract.keys.Keys (a test compares them).
K.queues = RQ .. ':queues'
K.suspended = RQ .. ':suspended'
K.outbox = US .. ':outbox'
K.epoch = US .. ':epoch'
K.doorbell = US .. ':doorbell'
K.wake = US .. ':wake'
K.todo = US .. ':dependents'
K.installs = US .. ':installs'
function K.queue(q) return RQ .. ':queue:' .. q end
function K.level(q, p) return p == 0 and K.queue(q) or RQ .. ':queue:' .. q .. '@' .. string.format('%d', p) end
function K.job(j) return RQ .. ':job:' .. j end
function K.dependents(j) return RQ .. ':job:' .. j .. ':dependents' end
function K.dependencies(j) return RQ .. ':job::' .. j .. ':dependencies' end
function K.started(q) return RQ .. ':wip:' .. q end
function K.registry(name, q) return RQ .. ':' .. name .. ':' .. q end
function K.execution(j, e) return RQ .. ':execution:' .. j .. ':' .. e end
function K.executions(j) return RQ .. ':executions:' .. j end
function K.worker_executions(w) return RQ .. ':worker:' .. w .. ':executions' end
function K.results(j) return RQ .. ':results:' .. j end
function K.rq_limit(k) return RQ .. ':rl:' .. k end
function K.settings(q) return US .. ':settings:' .. q end
function K.pause(q) return US .. ':pause:' .. q end
function K.levels(q) return US .. ':levels:' .. q end
function K.rate(q) return US .. ':rate:' .. q end
function K.lanes(q) return US .. ':lanes:' .. q end
function K.heads(q) return US .. ':heads:' .. q end
function K.ring(q) return US .. ':ring:' .. q end
function K.slots(q) return US .. ':slots:' .. q end
function K.back(q) return US .. ':back:' .. q end
function K.keyof(q) return US .. ':keyof:' .. q end
function K.full(q) return US .. ':full:' .. q end
function K.keyed(q) return US .. ':keyed:' .. q end
function K.breaker(q) return US .. ':breaker:' .. q end
function K.lane_list(q) return RQ .. ':queue:' .. q .. '@keys' end
function K.delayed(q) return US .. ':delayed:' .. q end
function K.dedup(q) return US .. ':dedup:' .. q end
function K.inflight(i) return US .. ':inflight:' .. i end
function K.dispatchers(i) return US .. ':dispatchers:' .. i end
function K.replies(w) return US .. ':replies:' .. w end
function K.trouble(q) return US .. ':trouble:' .. q end
function K.quarantine(q) return US .. ':quarantine:' .. q end
function K.events(q) return US .. ':events:' .. q end
function K.counters(q) return US .. ':counters:' .. q end
function K.ended(q, state) return US .. ':ended:' .. state .. ':' .. q end
function K.unfinalized(i) return US .. ':unfinalized:' .. i end
function K.unfinalized_jobs(i) return US .. ':unfinalized-jobs:' .. i end
function K.hold(q) return US .. ':hold:' .. q end
function K.done(j) return US .. ':done:' .. j end

L.FIELD_MAX = 262144
L.STATES = {
  created = 'waiting', queued = 'waiting', ready_to_enqueue = 'waiting', rate_limited = 'waiting',
  scheduled = 'delayed', started = 'active', deferred = 'waiting-children', finished = 'completed',
  failed = 'failed', canceled = 'cancelled', stopped = 'cancelled',
}
L.STATUS = { completed = 'finished', failed = 'failed', cancelled = 'canceled' }
L.REGISTRY = { completed = 'finished', failed = 'failed', cancelled = 'canceled' }
L.NEXT = { completed = 'complete', failed = 'fail', cancelled = 'cancel' }
L.KEEP = { -- retention where the queue has no settings: the documented defaults
  completed = { count = 1000, age = 86400000 }, failed = { count = 5000, age = 604800000 },
}
L.REQUEUED_S = 2592000 -- how long a job that RQ requeued at the end of its retention may wait for its claim
L.FIELDS = {
  'status', 'origin', 'created_at', 'enqueued_at', 'started_at', 'ended_at', 'worker_name', 'timeout',
  'retries_left', 'retry_intervals', 'result_ttl', 'failure_ttl', 'ttl', 'dependency_ids',
  'allow_dependency_failures', 'enqueue_at_front',
  'hl:inc', 'hl:src', 'hl:seq', 'hl:top', 'hl:exec', 'hl:worker', 'hl:install', 'hl:ns', 'hl:phase', 'hl:reason',
  'hl:job', 'hl:uid', 'hl:claimed', 'hl:deadline', 'hl:running', 'hl:evidence', 'hl:task', 'hl:priority', 'hl:due',
  'hl:expires', 'hl:options', 'hl:frozen', 'hl:attempts', 'hl:starts', 'hl:silent', 'hl:budgets', 'hl:history',
  'hl:outcome', 'hl:result', 'hl:cancel', 'hl:dedup', 'hl:enqueued', 'hl:ended', 'hl:progress', 'hl:fp', 'hl:op',
  'hl:trace', 'hl:rqmax', 'hl:attended', 'hl:first', 'hl:memory', 'hl:checkpoint', 'hl:key', 'hl:lifo',
}
-- What the fence compares, and what record, check and attend go by.
L.FENCED = {
  'status', 'origin', 'created_at', 'hl:inc', 'hl:src', 'hl:exec', 'hl:worker', 'hl:uid', 'hl:cancel', 'hl:phase',
  'hl:starts', 'hl:job', 'hl:claimed', 'hl:attended',
}
L.EXECUTION_FIELDS = { 'hl:exec', 'hl:phase', 'hl:deadline', 'hl:worker' }
-- What a completed job needs no more: it is not run again.
L.SPENT = { 'hl:exec', 'hl:phase', 'hl:deadline', 'hl:worker', 'hl:memory', 'hl:checkpoint', 'hl:first' }

-- A whole number as text; what no integer holds is written out (settings are anybody's).
local format = string.format
local as_text = {} -- those of one call are mostly the same
function L.int(n)
  local text = as_text[n]
  if not text then
    text = format((n > -1e15 and n < 1e15) and '%d' or '%.0f', n)
    if n == n then as_text[n] = text end
  end
  return text
end
local NOW_MS = L.int(NOW)

-- A whole number from text, or the default; anything else a stranger may have written is the default.
local as_number = {} -- those of one call are mostly the same
function L.num(value, default)
  local found = as_number[value or '']
  if found then return found end
  if type(value) == 'string' and #value <= 15 and string.match(value, '^-?%d+$') then
    found = tonumber(value)
    as_number[value] = found
    return found
  end
  return default
end

-- A second in RQ's time format, UTC.
local seconds_told = {} -- those of one call are mostly the same
local function second(seconds)
  local days = floor(seconds / 86400)
  local rest = seconds - days * 86400
  local z = days + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
  local mp = floor((5 * doy + 2) / 153)
  local day = doy - floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d', year, month, day, floor(rest / 3600), floor(rest % 3600 / 60), rest % 60)
end
-- RQ's time format from milliseconds (and microseconds below them).
function L.utc(ms, micros)
  local seconds = floor(ms / 1000)
  local told = seconds_told[seconds] or second(seconds)
  seconds_told[seconds] = told
  return told .. '.' .. string.sub(L.int(1000000 + (ms - seconds * 1000) * 1000 + (micros or 0)), 2) .. 'Z'
end
local utc_now
function L.utc_now()
  utc_now = utc_now or L.utc(NOW, clock[2] % 1000)
  return utc_now
end

function L.type(key) return call('TYPE', key).ok end

-- The job's fields as a table (`into`, where one is given), or nil and `missing` | `corrupt` and a sentence.
function L.load(job, fields, into)
  local key = K.job(job)
  fields = fields or L.FIELDS
  local values, h, most = try('HMGET', key, unpack(fields)), into or {}, L.FIELD_MAX
  if values.err then return nil, 'corrupt', 'the key ' .. key .. ' is a ' .. L.type(key) .. ', not a hash' end
  for i = 1, #fields do
    local value = values[i]
    if value and #value <= most then h[fields[i]] = value end
  end
  if next(h) == nil and L.type(key) == 'none' then return nil, 'missing', 'no job ' .. string.sub(job, 1, 200) end
  if fields == L.FIELDS and not h['hl:task'] then -- plain RQ: its description begins with the function's path
    h.func = string.match(string.sub(call('HGET', key, 'description') or '', 1, 300), '^([%w_.]+)%(')
  end
  if h.origin and (h.origin == '' or #h.origin > 512) then h.origin = nil end -- it becomes part of keys
  return h
end

function L.json(text)
  if not text then return nil end
  local ok, value = pcall(cjson.decode, text)
  if ok then return value end
  return nil
end
function L.object(text)
  local value = L.json(text)
  return type(value) == 'table' and value or nil
end
function L.table(value) return type(value) == 'table' and value or {} end
-- A finite number or nil: cjson reads 1e999 and refuses to write it.
function L.number(value)
  return type(value) == 'number' and value > -math.huge and value < math.huge and value or nil
end
-- Whether it is a whole number that ranks and expiries may be.
function L.whole(value) return L.number(value) and value >= 1 and value <= 1e12 and value % 1 == 0 end

local told_in = {} -- by queue, the key of its events
function L.emit(q, name, job, ...)
  local key = told_in[q] or K.events(q)
  told_in[q] = key
  try('XADD', key, 'MAXLEN', '~', '10000', '*', 'event', name, 'job', job, 'at', NOW_MS, ...)
end
function L.count(q, name, n) try('HINCRBY', K.counters(q), name, n and L.int(n) or '1') end

-- Opened when first used.
-- Milliseconds from RQ's time format, or nil.
function L.parse_utc(text)
  if type(text) ~= 'string' then return nil end
  local y, m, d, hh, mm, ss, us = string.match(text, '^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d)%.?(%d*)Z$')
  if not y then return nil end
  y, m, d = tonumber(y), tonumber(m), tonumber(d)
  if m <= 2 then y = y - 1 end
  local era = floor(y / 400)
  local yoe = y - era * 400
  local doy = floor((153 * (m > 2 and m - 3 or m + 9) + 2) / 5) + d - 1
  local doe = yoe * 365 + floor(yoe / 4) - floor(yoe / 100) + doy
  local seconds = (era * 146097 + doe - 719468) * 86400 + hh * 3600 + mm * 60 + ss
  return seconds * 1000 + floor(tonumber('0.' .. (us == '' and '0' or us)) * 1000)
end

-- nil, or a sentence on the first key that has another type than the one named after it.
local SIZE_OF = { zset = 'ZCARD', list = 'LLEN', hash = 'HLEN', set = 'SCARD', string = 'STRLEN', stream = 'XLEN' }
function L.wrong(...)
  local pairs_ = { ... }
  for i = 1, #pairs_, 2 do
    if type(try(SIZE_OF[pairs_[i + 1]], pairs_[i])) ~= 'number' then -- a number costs half of what a type's name does
      return 'the key ' .. pairs_[i] .. ' is a ' .. L.type(pairs_[i]) .. ', not a ' .. pairs_[i + 1]
        .. ': something else wrote it; look at it, then delete it'
    end
  end
  return nil
end

-- The job's fields as a flat list for the reply.
function L.flat(h)
  local out = {}
  for name, value in pairs(h) do
    out[#out + 1] = name
    out[#out + 1] = value
  end
  return out
end

local function read_settings(q)
  local key = K.settings(q)
  local have = L.type(key)
  if have == 'none' then return nil end
  if have ~= 'hash' then return nil, L.wrong(key, 'hash') end
  local raw = call('HMGET', key, 'json', 'install', 'namespace', 'generation', 'at')
  local spec = raw[1] and #raw[1] <= 4 * L.FIELD_MAX and L.object(raw[1])
  if not (spec and spec[1] == nil and raw[2] and raw[3]) then
    return nil, 'the settings in ' .. key .. ' cannot be read: something else wrote them; look at them, then delete the key'
  end
  for _, name in ipairs({ 'concurrencyMax', 'concurrencyPerKey', 'rateLimit' }) do
    local bound = spec[name]
    local own = type(bound) == 'table' and bound or {}
    local fit = (name == 'rateLimit' and L.whole(own.limit) and L.whole(own.period)) or (name ~= 'rateLimit' and L.number(bound))
    if bound ~= nil and bound ~= cjson.null and not fit then -- unreadable must never mean "no bound"
      return nil, name .. ' in the settings in ' .. key .. ' cannot be used as a bound'
    end
  end
  return { spec = spec, install = raw[2], namespace = raw[3], generation = L.num(raw[4], 0), at = L.num(raw[5], 0) }
end

-- The queue's settings {spec, install, namespace, generation}, or nil and what is wrong (nil when there are none); read
-- once in a call.
local settings_of = {}
function L.settings(q)
  local found = settings_of[q]
  if not found then
    found = { read_settings(q) }
    settings_of[q] = found
  end
  return found[1], found[2]
end

-- The same note again is not written again: claim meets a corrupt key once a second.
function L.trouble(q, kind, message)
  local old = L.object(try('HGET', K.trouble(q), kind) or nil)
  if old and old.message == message then return end
  try('HSET', K.trouble(q), kind, cjson.encode({ message = message, at = NOW }))
end
function L.quarantine(q, id, message)
  local note = { id = string.sub(id, 1, 200), message = message, at = NOW, queue = q }
  try('LPUSH', K.quarantine(q), cjson.encode(note))
  try('LTRIM', K.quarantine(q), 0, 999)
  L.count(q, 'quarantined')
  L.emit(q, 'quarantined', string.sub(id, 1, 200), 'reason', string.sub(message, 1, 500))
end
function L.drop(q, id, reason)
  L.count(q, 'dropped')
  L.emit(q, 'dropped', string.sub(id, 1, 200), 'reason', reason)
end
