-- Take up to `max` waiting jobs over the queues in the order given: from its list into RQ's started registry, with an
-- execution, in one step. Asking again with the same request id returns the same claims.
-- ARGV: prefix, prefix, worker, request, install, max, slots, deadline ms, limits JSON {max, looked, bytes, promote,
--   stored, id, starts}, ends JSON {code: {class, body, exc}}, queues...
-- Returns: {claims, {queue, reason, ...}, next due in ms or -1}; a claim as L.claim makes it, frozen '' = as the one before.
-- With: _tally.lua, _serve.lua, _frozen.lua, _open.lua
local worker, request, install = ARGV[3], ARGV[4], ARGV[5]
local limits = cjson.decode(ARGV[9])
local wanted, slots, patience = min(tonumber(ARGV[6]), limits.max), tonumber(ARGV[7]), tonumber(ARGV[8])
local FIELDS = {
  'status', 'origin', 'created_at', 'enqueued_at', 'hl:inc', 'hl:src', 'hl:seq', 'hl:exec', 'hl:task', 'hl:priority',
  'hl:expires', 'hl:options', 'hl:starts', 'hl:ended', 'hl:trace', 'hl:key',
}
local BEFORE = { -- what a job of ours has once it was claimed, and one that RQ enqueued may have
  'retries_left', 'timeout', 'hl:top', 'hl:worker', 'hl:install', 'hl:ns', 'hl:attempts', 'hl:silent',
  'hl:rqmax', 'hl:first', 'hl:memory', 'hl:checkpoint', 'hl:uid', 'hl:dedup', 'ended_at',
}
local ENDING = { 'result_ttl', 'failure_ttl', 'hl:history', 'hl:dedup' }
local SMALL = 8192 -- bytes of data that are read together with the fields
local WITH_DATA = { 'data', unpack(FIELDS) }
-- All of ours but incarnation, source and history's own: what a job enqueued anew must not inherit.
local side
local function side_fields()
  if side then return side end
  side = {}
  for _, name in ipairs(L.FIELDS) do
    if string.sub(name, 1, 3) == 'hl:' then side[#side + 1] = name end
  end
  return side
end

local claims, blocked, next_due, left = {}, {}, -1, { looked = limits.looked, promote = limits.promote, bytes = 0 }
local room = 0 -- executions this install may still start
-- What things cost beside the look itself, of the units `looked`: measured, so that no claim holds Redis for long.
local COST = { claim = 5, key = 4, ended = 12, moved = 2, promoted = 2, rechecked = 2, freed = 2, queue = 6 }
local function spend(what, n) left.looked = left.looked - COST[what] * (n or 1) end

-- Counts are written together at the end.
local counted = {}
function L.count(q, name, n)
  local of = counted[q] or {}
  of[name], counted[q] = (of[name] or 0) + (n or 1), of
end

local function block(q, reason)
  blocked[#blocked + 1] = q
  blocked[#blocked + 1] = reason
end

local function more(h, job, fields)
  for name, value in pairs(L.load(job, fields) or {}) do h[name] = value end
end

-- What starts is written into the registry and the width together, at the end.
local starts, members = {}, {}
local function begun(q, set, member)
  starts[q] = starts[q] or { set = set }
  local of = starts[q]
  of[#of + 1], of[#of + 2] = NOW_MS, member
end
local function settle()
  if rawget(L, 'settle_lanes') then L.settle_lanes() end
end
local function write_starts()
  settle()
  for q, of in pairs(starts) do
    L.rate_spend(q, of.set, of)
    call('ZADD', K.inflight(install), unpack(of))
    for i = 1, #of, 2 do of[i] = '+inf' end
    call('ZADD', K.started(q), unpack(of))
  end
  starts = {}
end

local ends
local function fail(q, job, h, code)
  settle()
  spend('ended')
  more(h, job, ENDING)
  ends = ends or cjson.decode(ARGV[10])
  local e = ends[code]
  L.finish(q, job, h, { state = 'failed', body = e.body, class = e.class, exc = e.exc, execution = '',
    seq = L.num(h['hl:seq'], 0), attempt = L.num(h['hl:attempts'], 0) + 1 })
end

-- RQ enqueued this id anew over our fields, or it is plain RQ's and new to us: nothing of before counts.
local function adopt(q, job, h, source)
  settle()
  if h['hl:exec'] then L.forget(q, job, h['hl:exec'], h['hl:worker'], h['hl:install']) end
  call('HSET', K.job(job), 'origin', q) -- may be refused for want of memory, before anything is dropped
  call('HDEL', K.job(job), unpack(side_fields()))
  local fresh, retries = { 'hl:inc', string.sub(source, 1, 16), 'hl:src', source }, L.num(h.retries_left, -1)
  for _, name in ipairs(side_fields()) do h[name] = nil end
  if retries >= 0 then -- now: this claim may leave the job to the next one
    h['hl:rqmax'] = L.int(retries + 1)
    fresh[5], fresh[6] = 'hl:rqmax', h['hl:rqmax']
  end
  call('HSET', K.job(job), unpack(fresh))
  for _, state in ipairs({ 'completed', 'failed', 'cancelled' }) do try('ZREM', K.ended(q, state), job) end
  h['hl:inc'], h['hl:src'] = string.sub(source, 1, 16), source
end

-- `rq requeue` of a job that had ended: attempts from zero, history kept, as our own retry does.
local function requeued(q, job, h)
  for _, state in ipairs({ 'completed', 'failed', 'cancelled' }) do
    try('ZREM', K.ended(q, state), job)
    try('ZREM', K.registry(L.REGISTRY[state], q), job)
  end
  call('HDEL', K.job(job), 'hl:expires')
  if h['hl:dedup'] then settle() end -- a follower may go on, into a lane
  if h['hl:dedup'] and not L.dedup_rival(q, h['hl:dedup'], job) then L.dedup_take(q, h['hl:dedup'], job) end
  h['hl:attempts'], h['hl:starts'], h['hl:silent'] = '0', '0', '0'
  h['hl:ended'], h['hl:expires'], h['hl:first'] = nil, nil, nil
  return { 'hl:attempts', '0', 'hl:starts', '0', 'hl:silent', '0', 'hl:budgets', '{}' }
end

-- The next seq: the one after the last, but never one that another install or namespace may have used.
local function next_seq(h, set)
  local seq, top = L.num(h['hl:seq'], 0), L.num(h['hl:top'], 0)
  local mine = (h['hl:install'] or install) == install and (h['hl:ns'] or set.namespace) == set.namespace
  return (mine and seq or max(seq, top)) + 1
end

local function start(q, job, h, set, data, options)
  local seq, attempt = next_seq(h, set), L.num(h['hl:attempts'], 0) + 1
  local execution = h['hl:inc'] .. '-' .. L.int(seq)
  local member = job .. ':' .. execution
  local key, own, all = K.job(job), K.execution(job, execution), K.executions(job)
  local known = call('EXISTS', own, all) > 0
  local wrong = known and L.wrong(own, 'hash', all, 'zset')
  if wrong then return nil, wrong end
  local frozen, deadline, started = L.freeze(h, options, set), NOW + patience, L.utc_now()
  local seq_text, deadline_text = L.int(seq), L.int(deadline)
  local fields = { 'status', 'started', 'started_at', started, 'last_heartbeat', started, 'worker_name', worker, 'hl:seq', seq_text, 'hl:top', L.int(max(seq, L.num(h['hl:top'], 0))),
    'hl:exec', execution, 'hl:worker', worker, 'hl:install', install, 'hl:ns', set.namespace, 'hl:phase', 'claimed',
    'hl:claimed', NOW_MS, 'hl:deadline', deadline_text, 'hl:attempts', L.int(attempt - 1), 'hl:frozen', frozen,
    'hl:first', L.int(L.num(h['hl:first'], NOW)) }
  local function put(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if h.origin ~= q then put('origin', q) end
  if h.ended_at then put('ended_at', '') end
  if h['hl:rqmax'] then put('hl:rqmax', h['hl:rqmax']) end
  for _, value in ipairs(h.reset or {}) do fields[#fields + 1] = value end
  call('HSET', key, unpack(fields))
  call('HDEL', key, 'hl:reason', 'hl:job', 'hl:uid', 'hl:running', 'hl:evidence', 'hl:due', 'hl:ended', 'hl:attended',
    'hl:outcome', 'hl:result', 'hl:cancel')
  call('PERSIST', key) -- RQ's ttl would delete it while it runs
  call('HSET', own, 'id', execution, 'job_id', job, 'created_at', NOW_S, 'last_heartbeat', NOW_S, 'worker_name', worker)
  call('ZADD', all, '+inf', execution)
  if known then
    call('PERSIST', own)
    call('PERSIST', all)
  end
  if h['hl:key'] then
    spend('key')
    L.key_begins(q, h['hl:key'], member)
  end
  spend('claim')
  begun(q, set, member)
  members[#members + 1] = member
  if #claims == 0 then try('SET', K.epoch, L.int(NOW) .. '-' .. h['hl:inc'], 'NX') end -- RQ's own enqueue makes none
  L.count(q, 'claimed')
  L.emit(q, 'active', job, 'execution', execution, 'attempt', L.int(attempt), 'seq', seq_text, 'worker', worker,
    'wait', L.int(h.waited))
  L.waited(q, h.waited, L.watched(set, job, h['hl:task']))
  h['hl:ns'], h['hl:exec'], h['hl:seq'], h['hl:attempts'] = set.namespace, execution, seq_text, L.int(attempt - 1)
  h['hl:claimed'], h['hl:deadline'], h['hl:frozen'] = NOW_MS, deadline_text, frozen
  return L.claim(q, job, h, data)
end

-- What to do with the id at the head of level p in its list or in the lane of a key: 'claimed', 'gone' (taken off), 'stop'
-- (leave it for the next call).
local function judge(q, job, p, set, keyed)
  if #job > limits.id or not string.match(job, '^[%w_-]+$') then
    L.quarantine(q, job, 'not a usable job id: letters, digits, - and _, at most ' .. limits.id .. ' characters')
    return 'gone'
  end
  local size = try('HSTRLEN', K.job(job), 'data')
  if size == 0 and call('EXISTS', K.job(job)) == 0 then -- asked before its fields: there may be very many
    L.drop(q, job, 'its job is gone')
    return 'gone'
  end
  local h, why, message = L.load(job, type(size) == 'number' and size <= SMALL and WITH_DATA or FIELDS)
  if why == 'corrupt' then
    L.quarantine(q, job, message)
    return 'gone'
  elseif not L.STATES[h.status or ''] then
    L.quarantine(q, job, h.status and 'unknown status ' .. string.sub(h.status, 1, 100) or 'the job has no status')
    return 'gone'
  elseif h.status ~= 'queued' then
    L.drop(q, job, 'its status is ' .. h.status)
    return 'gone'
  elseif h.origin and h.origin ~= q then
    L.quarantine(q, job, 'the job belongs to queue ' .. string.sub(h.origin, 1, 200))
    return 'gone'
  end
  local own = L.priority(h)
  if p ~= own or L.key(h) ~= keyed then
    settle()
    more(h, job, L.PLACED)
  end
  if p ~= own and not L.unfit(q, h) then -- RQ put it into the base list, or its priority was changed deep in a level
    L.place(q, job, h, false, nil)
    return 'gone'
  elseif L.key(h) ~= keyed and L.rule(q).apart then -- it came before keys were kept apart
    spend('moved')
    if L.key(h) then L.lane_put(q, job, h, 'since') else L.place(q, job, h, false, nil) end
    return 'gone'
  end
  h.waited = NOW - (L.since(h) or NOW)
  local sound, source = L.sound(job, h)
  sound = sound and string.match(h['hl:inc'] or '', '^[a-z0-9]+$') and #h['hl:inc'] <= 40
  if not sound or h['hl:seq'] or h['hl:exec'] or h['hl:ended'] or not h['hl:task'] then more(h, job, BEFORE) end
  h['hl:src'] = source
  if not sound then
    adopt(q, job, h, source)
  elseif h['hl:ended'] then
    h.reset = requeued(q, job, h)
  end
  local options = L.options_of(h)
  local started = L.num(h['hl:starts'], 0)
  local expires = started == 0 and L.num(h['hl:expires'], nil) -- it asks for the first start only
  local code = (expires and expires <= NOW and 'expired') or (size == 0 and 'nodata')
    or (size > limits.stored and 'toolarge') or (started >= limits.starts and 'starts')
    or (not options and 'options') or (h['hl:key'] and not L.key(h) and 'key')
    or ((L.total_due(h, options, set) or math.huge) <= NOW and 'total')
  if not code and #claims > 0 and left.bytes + size > limits.bytes then return 'stop' end
  if sound and h['hl:exec'] then -- somebody queued it while it ran: the old execution is superseded
    settle()
    L.forget(q, job, h['hl:exec'], h['hl:worker'], h['hl:install'])
    L.emit(q, 'stalled', job, 'execution', h['hl:exec'], 'reason', 'queued again while active')
  end
  if code then
    fail(q, job, h, code)
    return 'gone'
  end
  local claim, wrong = start(q, job, h, set, h.data or call('HGET', K.job(job), 'data'), options)
  if not claim then
    L.quarantine(q, job, wrong)
    fail(q, job, h, 'corrupt')
    return 'gone'
  end
  left.bytes = left.bytes + size
  claims[#claims + 1] = claim
  return 'claimed'
end

local function soonest(due) if due and (next_due < 0 or due - NOW < next_due) then next_due = max(due - NOW, 0) end end

local DELAYED = { 'origin', unpack(L.PLACED) }
local function promote_one(q, job, due, front_allowed)
  spend('promoted')
  local h, why = L.load(job, DELAYED)
  local theirs = h and h.origin and h.origin ~= q -- its id was deleted by RQ, and taken anew for another queue
  if h and h.status == 'scheduled' and not theirs then
    local wrong = L.unfit(q, h)
    if wrong then return wrong end
    call('HSET', K.job(job), 'status', 'queued', 'enqueued_at', L.utc(due)) -- it waits since it was due
    L.place(q, job, h, front_allowed and h.enqueue_at_front == '1', nil)
    L.emit(q, 'waiting', job, 'reason', 'due')
  elseif why ~= 'corrupt' then
    local what = theirs and 'it belongs to another queue' or h and 'its status is ' .. (h.status or 'none')
    L.drop(q, job, what and 'it is among the delayed, ' .. what or 'its job is gone')
  else
    L.quarantine(q, job, 'its key is not a hash')
  end
  try('ZREM', K.delayed(q), job)
  try('ZREM', K.registry('scheduled', q), job)
end

-- Delayed jobs that are due, ours (milliseconds) and those of RQ's own enqueue_in and enqueue_at (seconds).
local function promote(q)
  if call('EXISTS', K.delayed(q), K.registry('scheduled', q)) == 0 then return end
  local function each_due(zset, now, ms, move)
    local most = max(left.promote, 0)
    local found = call('ZRANGEBYSCORE', zset, '-inf', L.int(now), 'WITHSCORES', 'LIMIT', 0, most)
    for i = 1, #found, 2 do
      move(found[i], max(tonumber(found[i + 1]) * ms, 0))
      left.promote = left.promote - 1
    end
  end
  each_due(K.delayed(q), NOW, 1, function(job, due) promote_one(q, job, due, false) end)
  local key = K.registry('scheduled', q)
  each_due(key, NOW_S, 1000, function(job, due)
    if not call('ZSCORE', K.delayed(q), job) then promote_one(q, job, due, true) end
  end)
  -- What is due and was looked at stays because it cannot move (a wrong type): asking again at once changes nothing.
  local function next_of(zset, now)
    local from = left.promote > 0 and '(' .. L.int(now) or '-inf'
    return call('ZRANGEBYSCORE', zset, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  end
  soonest(tonumber(next_of(K.delayed(q), NOW)[2]))
  local theirs = next_of(key, NOW_S)
  if theirs[1] and not call('ZSCORE', K.delayed(q), theirs[1]) then soonest(tonumber(theirs[2]) * 1000) end
end

-- Start what may start of one queue, and say why it is not more.
local function start_some(q, set, plain)
  local bound, breaker = L.bounds(q, set, plain)
  local c, before, gone = {}, #claims, false
  function c.full()
    if #claims >= wanted or left.looked <= 0 then return 'enough' end
    for _, one in ipairs(bound) do
      if one.left <= #claims - before then return one.why end
    end
    return room <= 0 and 'width' or nil
  end
  function c.skip()
    left.looked = left.looked - 1
    return 'gone'
  end
  function c.judge(job, p, keyed)
    left.looked = left.looked - 1
    local verdict = judge(q, job, p, set, keyed)
    if verdict == 'claimed' then room = room - 1 end
    gone = gone or verdict == 'gone'
    return verdict
  end
  if not plain then
    L.rate_trim(q, set)
    spend('rechecked', L.recheck(q))
  end
  local why = L.serve(q, c, plain)
  write_starts()
  if breaker and #claims > before then L.breaker_probe(q, members[#members]) end
  for _, one in ipairs(bound) do
    if one.why == why and (one.wait or 0) > 0 then soonest(NOW + one.wait) end
  end
  if why == 'rate' then
    local _, wait = L.rate(q, set)
    if wait then soonest(NOW + wait) end
  end
  if gone and left.looked <= 0 then soonest(NOW) end -- there may be more behind what was taken off
  if why ~= 'enough' then block(q, why) end
end

local function corrupt(q, message)
  L.trouble(q, 'corrupt', message)
  block(q, 'corrupt')
end

local function serve(q)
  local nothing = L.idle(q)
  if nothing then return block(q, nothing) end
  spend('queue')
  local set, message = L.settings(q)
  if message then return corrupt(q, message) end
  local plain, why = L.bare(q) and not (set and L.rule(q, set).apart), nil
  why, message = L.shut(q, set, install, plain)
  if message then return corrupt(q, message) end
  if why then return block(q, why) end
  if not plain then
    try('HDEL', K.trouble(q), 'corrupt')
    promote(q)
  end
  start_some(q, set, plain)
end

local function serve_all()
  local live = try('ZCOUNT', K.dispatchers(install), '(' .. L.int(NOW), '+inf')
  live = max(type(live) == 'number' and live or 1, 1)
  room = slots * live - call('ZCARD', K.inflight(install))
  for i = 11, #ARGV do
    if #claims >= wanted or left.looked <= 0 then break end
    serve(ARGV[i])
  end
  for _, job in ipairs(L.type(K.todo) == 'set' and call('SRANDMEMBER', K.todo, 1) or {}) do
    local h = L.load(job, { 'status' })
    L.free_dependents(job, h and L.STATES[h.status or ''] or 'completed', 10 + floor(max(left.looked, 0) / COST.freed))
  end
end

local key = K.replies(worker)
local wrong = L.wrong(K.inflight(install), 'zset', key, 'hash')
if wrong then
  for i = 11, #ARGV do corrupt(ARGV[i], wrong) end
  return { claims, blocked, -1 }
end
local last = call('HMGET', key, 'request', 'reply')
if last[1] == request and last[2] then
  local ok, before = pcall(cmsgpack.unpack, last[2])
  if ok and type(before) == 'table' and #before == 3 then return before end
end
local whole, message = pcall(serve_all)
write_starts()
if not whole then error(message, 0) end
local reply = { claims, blocked, next_due }
L.tally_waits()
for q, names in pairs(counted) do
  for name, n in pairs(names) do try('HINCRBY', K.counters(q), name, n) end
end
if #claims > 0 then
  for i = #claims, 2, -1 do claims[i][4] = claims[i][4] ~= claims[i - 1][4] and claims[i][4] or '' end
  try('SADD', K.worker_executions(worker), unpack(members))
  call('HSET', key, 'request', request, 'reply', cmsgpack.pack(reply))
  call('PEXPIRE', key, 600000)
end
return reply
