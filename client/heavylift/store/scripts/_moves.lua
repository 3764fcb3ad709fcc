-- How jobs move between states: places, ends, dependents, fences; after `_lib.lua` in front of every script.
-- With: _dependents.lua, _keys.lua, _leaving.lua, _rate.lua, _breaker.lua, _dedupe.lua, _retention.lua, _rqlimit.lua, _ends.lua
local priorities = {}
function L.priority(h)
  local text = h['hl:priority']
  if not text then return 0 end
  if not priorities[text] then
    local p = L.num(text, 0)
    priorities[text] = (p >= -1000 and p <= 1000) and p or 0
  end
  return priorities[text]
end

-- Opened when first used.
L.LEVELS_MAX = 2001 -- of jobs that came due, were retried or let go: those are taken whatever their priority

-- Why a queue takes no job of another priority, or nil: it has as many in use as one look goes through.
function L.crowded(q, p)
  local levels = K.levels(q)
  if p == 0 or L.type(levels) ~= 'zset' or call('ZSCORE', levels, L.int(p)) or call('ZCARD', levels) < 32 then return nil end
  return 'the queue has jobs of 32 priorities waiting, no more can be in use at once: take one of them'
end

-- What is wrong with the keys a job of this queue would be put into, or nil.
function L.unfit(q, h)
  return L.wrong(K.level(q, L.priority(h)), 'list', K.levels(q), 'zset', K.delayed(q), 'zset',
    K.registry('scheduled', q), 'zset', K.queues, 'set') or (L.key(h) and L.wrong_keys(q))
end

-- Put a job whose hash stands into its level (front or back; `hl:lifo` = front), into its key's lane where the queue keeps
-- keys apart, or, with a due time, among the delayed. Of the hash it reads L.PLACED.
L.PLACED = { 'status', 'hl:priority', 'hl:key', 'hl:lifo', 'enqueued_at', 'enqueue_at_front' }
local rung, listed = {}, {}
local function enlist(q)
  if not listed[q] then call('SADD', K.queues, K.queue(q)) end
  listed[q] = true
end
-- Say once in a call that a queue has something to take.
function L.announce(q)
  if not rung[q] then call('PUBLISH', K.doorbell, q) end -- subscribers act when the script is over
  rung[q] = true
  enlist(q)
end
function L.use_level(q, p)
  call('ZADD', K.levels(q), p, L.int(p))
  call('SADD', K.queues, K.level(q, p))
end
function L.place(q, job, h, front, due)
  if due and due > NOW then
    call('ZADD', K.delayed(q), L.int(due), job)
    call('ZADD', K.registry('scheduled', q), L.int(math.ceil(due / 1000)), job)
    return enlist(q)
  end
  local p = L.priority(h)
  front = front or h['hl:lifo'] == '1'
  if L.key(h) and L.rule(q).apart then
    L.lane_put(q, job, h, front and 'front' or 'back')
  else
    call(front and 'LPUSH' or 'RPUSH', K.level(q, p), job)
    if p ~= 0 then L.use_level(q, p) end
  end
  L.announce(q)
end

-- Take the id a list began with off it: its end may have put another job, one that follows it, in front.
function L.take_off(list, job)
  local head = call('LPOP', list)
  if head == job then return end
  if head then call('LPUSH', list, head) end
  call('LREM', list, 1, job)
end

-- Take an id out of a list, if it stands near one of its ends: each look costs 0.15 ms. A deep list keeps the others: a
-- ghost that claim drops costs less than a search through it.
local NEAR = 10000
local function pull(list, job)
  local depth = try('LLEN', list)
  if type(depth) ~= 'number' or depth == 0 then return end
  if depth <= NEAR then return try('LREM', list, 1, job) end
  for _, side in ipairs({ 1, -1 }) do
    if call('LPOS', list, job, 'RANK', side, 'MAXLEN', NEAR) then return try('LREM', list, side, job) end
  end
end

-- Take a waiting, delayed or deferred job out of every place it may stand in.
function L.displace(q, job, h)
  pull(K.level(q, L.priority(h)), job)
  pull(K.queue(q), job) -- RQ knows one list, and may have put it there a second time
  L.lane_leave(q, job, h)
  try('ZREM', K.delayed(q), job)
  try('ZREM', K.registry('scheduled', q), job)
  try('ZREM', K.registry('deferred', q), job)
end

-- Always there.
-- Forget an execution: RQ's keys of it, its place in the install's width and among those of its key.
function L.forget(q, job, execution, worker, install)
  local member = job .. ':' .. execution
  try('DEL', K.execution(job, execution))
  try('ZREM', K.executions(job), execution)
  try('ZREM', K.started(q), member)
  if worker and worker ~= '' then try('SREM', K.worker_executions(worker), member) end
  if install and install ~= '' then try('ZREM', K.inflight(install), member) end
  if type(try('HGET', K.keyof(q), member)) == 'string' then L.key_ends(q, member) end
end

-- The fence: nil when the caller may act on the current execution, else a verdict and
-- a sentence. A missing hash takes what is left of the execution with it. f = {job, execution, worker, uid}, '' = any.
function L.fence(h, why, message, f)
  if why == 'corrupt' then return 'corrupt', message end
  if not h then
    L.forget_everywhere(f.job, f.execution, f.worker)
    return 'missing', message
  end
  if not h.origin then return 'corrupt', 'the job ' .. f.job .. ' has no origin' end
  if h['hl:exec'] ~= f.execution then L.forget_stray(f.job, f.execution, f.worker) end
  if h['hl:exec'] ~= f.execution then return 'refused', 'its current execution is ' .. (h['hl:exec'] or 'none') end
  if not L.sound(f.job, h) then return 'refused', 'the id was enqueued anew' end
  if f.worker ~= '' and h['hl:worker'] ~= f.worker then
    return 'refused', 'it is held by ' .. (h['hl:worker'] or 'nobody')
  end
  if f.uid ~= '' and h['hl:uid'] and h['hl:uid'] ~= f.uid then return 'refused', 'its Job has uid ' .. h['hl:uid'] end
  return nil
end
function L.fence_arguments() return { job = ARGV[3], execution = ARGV[4], worker = ARGV[5], uid = ARGV[6] } end
function L.refuse(q, verdict) if verdict == 'refused' and q then L.count(q, 'conflicts') end end

-- What a job's incarnation belongs to: another value means that RQ enqueued the id anew over our fields.
function L.source(job, h) return redis.sha1hex(job .. '\n' .. (h.created_at or '')) end
-- Whether the fields are of this incarnation, and its source; one made by our client carries its beginning alone.
function L.sound(job, h)
  local source = L.source(job, h)
  return h['hl:src'] == source or (not h['hl:src'] and h['hl:inc'] == string.sub(source, 1, 16)), source
end

-- Whether somebody wants this active job to end: our cancel, or a status that RQ's own cancel and stop leave.
function L.cancelled(h) return h['hl:cancel'] ~= nil or h.status == 'canceled' or h.status == 'stopped' end

-- Fields for a recorded Job UID; the first one counts a start.
function L.recorded(h, uid, set)
  if uid ~= '' and not h['hl:uid'] then
    h['hl:starts'], h['hl:silent'] = L.int(L.num(h['hl:starts'], 0) + 1), '0'
    for _, value in ipairs({ 'hl:uid', uid, 'hl:starts', h['hl:starts'], 'hl:silent', '0' }) do set[#set + 1] = value end
    if h['hl:phase'] == 'claimed' then
      set[#set + 1] = 'hl:phase'
      set[#set + 1] = 'pending'
      h['hl:phase'] = 'pending'
    end
    h['hl:uid'] = uid
    return true
  end
  return false
end

-- Opened when first used.
-- An ended job waits again: attempts, budgets and starts from zero, history kept, the next claim takes the next seq.
function L.revive(q, job, h, fields)
  local key = K.job(job)
  local set = { 'status', 'queued', 'enqueued_at', L.utc_now(), 'started_at', '', 'ended_at', '', 'worker_name', '',
    'hl:enqueued', L.int(NOW), 'hl:attempts', '0', 'hl:starts', '0', 'hl:silent', '0', 'hl:budgets', '{}' }
  for _, value in ipairs(fields or {}) do set[#set + 1] = value end
  call('HSET', key, unpack(set))
  call('HDEL', key, 'hl:ended', 'hl:outcome', 'hl:result', 'hl:cancel', 'hl:expires', 'hl:due', 'hl:reason',
    'hl:evidence', 'hl:running', 'hl:job', 'hl:uid', 'hl:claimed', 'hl:first', unpack(L.EXECUTION_FIELDS))
  for _, name in ipairs({ key, K.results(job), K.dependents(job), K.dependencies(job) }) do try('PERSIST', name) end
  L.place(q, job, h, false, nil)
  if h['hl:dedup'] and not L.dedup_rival(q, h['hl:dedup'], job) then L.dedup_take(q, h['hl:dedup'], job) end
  for state, name in pairs(L.REGISTRY) do
    try('ZREM', K.registry(name, q), job)
    try('ZREM', K.ended(q, state), job)
  end
  L.count(q, 'retried')
  L.emit(q, 'waiting', job, 'reason', 'retry')
end

L.PLAIN = {
  'timeout', 'retries_left', 'retry_intervals', 'enqueue_at_front_on_retry', 'success_callback_name',
  'failure_callback_name', 'stopped_callback_name', 'webhooks', 'repeats_left', 'repeat_intervals', 'rate_limit_key',
  'rate_limit_concurrency', 'result_ttl', 'failure_ttl', 'ttl', 'group_id',
}

-- The epoch of this Redis's data as the Jobs of its claims carry it; '' when there is none, or none of ours.
local epoch
function L.epoch()
  if epoch then return epoch end
  epoch = ''
  if L.type(K.epoch) == 'string' and call('STRLEN', K.epoch) <= 64 then
    epoch = string.match(call('GET', K.epoch), '^%d+%-%w+$') or ''
  end
  return epoch
end

-- One claim for the reply: {lines (job, queue, namespace, execution, incarnation, seq, attempt, task, claimed ms, deadline
-- ms, traceparent, epoch, silent claims, memory in bytes or ''), data, options, frozen, {RQ field, value, ...} of a plain
-- job, checkpoint JSON or ''}.
function L.claim(q, job, h, data)
  local task, plain = h['hl:task'] or '', {}
  if task == '' then
    local values = call('HMGET', K.job(job), unpack(L.PLAIN))
    for i, name in ipairs(L.PLAIN) do
      if values[i] and values[i] ~= '' then
        plain[#plain + 1] = name
        plain[#plain + 1] = string.sub(values[i], 1, 2048)
      end
    end
  end
  local parts = { job, q, h['hl:ns'], h['hl:exec'], h['hl:inc'], h['hl:seq'], L.int(L.num(h['hl:attempts'], 0) + 1), task,
    h['hl:claimed'], h['hl:deadline'], h['hl:trace'] or '', L.epoch(), h['hl:silent'] or '0', h['hl:memory'] or '' }
  if string.find(table.concat(parts), '\n', 1, true) then -- a stranger wrote one of them
    for k, part in ipairs(parts) do parts[k] = string.gsub(part, '\n', ' ') end
  end
  local lines = table.concat(parts, '\n')
  local checkpoint = h['hl:checkpoint'] or ''
  return { lines, data, h['hl:options'] or '{}', h['hl:frozen'] or '{}', plain, #checkpoint <= 4096 and checkpoint or '' }
end

-- Opened when first used.
-- An execution whose job's hash is gone: out of every place it may stand in. Rare, so all installs and queues are tried.
function L.forget_everywhere(job, execution, worker)
  local member = job .. ':' .. execution
  for _, install in ipairs(L.members(K.installs)) do try('ZREM', K.inflight(install), member) end
  for _, key in ipairs(L.members(K.queues)) do
    local q = string.sub(key, #K.queue('') + 1)
    L.forget(q, job, execution, worker, nil)
  end
end
-- An execution that is not the current one and still counts (its hash was deleted and enqueued anew): it must not.
function L.stray(job, execution)
  for _, install in ipairs(L.members(K.installs)) do
    if type(try('ZSCORE', K.inflight(install), job .. ':' .. execution)) == 'string' then return true end
  end
  return false
end
function L.forget_stray(job, execution, worker)
  if L.stray(job, execution) then L.forget_everywhere(job, execution, worker) end
end
function L.members(key) return L.type(key) == 'set' and call('SMEMBERS', key) or {} end

-- Always there.
-- Since when a waiting job waits (ms): put into its queue, retried or due; released jobs count from before the claim.
L.SINCE = { 'enqueued_at', 'hl:enqueued' }
local parsed = {} -- those of one batch were enqueued at one time
local function parse(text)
  if not text then return nil end
  if not parsed[text] then parsed[text] = L.parse_utc(text) end
  return parsed[text]
end
function L.since(h)
  local at = parse(h.enqueued_at) or L.num(h['hl:enqueued'], nil)
  return at and min(at, NOW)
end
