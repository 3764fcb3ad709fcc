-- Write outcomes, each once per execution. Each end of a call is fenced, judged and answered by itself; see _ends.lua.
-- ARGV: prefix, prefix, then for each end 12 words and those that the last of them names: job, execution, worker or '', UID
--   or '', `<next complete|fail|cancel|retry> <spend attempt|budget|none> <class> <delay ms> <a Job exists 1|0>`, body JSON
--   {"class":...,"message":"...}, exception text as RQ stores it (of a failure), result JSON or '', result as RQ stores it or
--   '', started ms or '', ended ms or '', names of further words with blanks between: `small` body for the history, else the
--   same; `instead` and `instead_small` = body and small body if a cancel wins, else made of these; `memory` of the next
--   attempt in bytes; `checkpoint` JSON, else the old one stays; `hold` = ms to hold the queue back.
-- Returns: for each end {verdict, state, stored outcome JSON, message}, of an applied one whose Job exists under a name not
--   known here also {install, namespace, queue, incarnation, seq}; or the error it met: TRYAGAIN = this call did enough.
local WORDS = 12
local ENOUGH = 50 -- where a call is about more than one end: dependents it looks at, and half as many KB again that it takes in
local FIELDS = {
  'status', 'origin', 'created_at', 'result_ttl', 'failure_ttl', 'hl:inc', 'hl:src', 'hl:seq', 'hl:exec', 'hl:worker',
  'hl:install', 'hl:ns', 'hl:job', 'hl:uid', 'hl:claimed', 'hl:running', 'hl:attempts', 'hl:history', 'hl:cancel',
  'hl:dedup', 'hl:rqmax', 'hl:task',
}
local STATE = { complete = 'completed', fail = 'failed', cancel = 'cancelled' }
local looked, ends = 0, 0

local plans = {} -- those of one call are mostly the same
local function plan(text)
  if not plans[text] then
    local next_, spend, class, delay, exists = string.match(text, '^(%l+) (%l+) (%S+) (%-?%d+) ([01])$')
    plans[text] = { next = next_, spend = spend, class = class, delay = tonumber(delay), exists = exists == '1' }
  end
  return plans[text]
end
-- The end whose words stand after a place in ARGV, and the place after it.
local function read(at)
  local job, execution, worker, uid, text, body, exc, result, value, started, ended, names = unpack(ARGV, at + 1, at + WORDS)
  local known, last = plan(text), at + WORDS
  local x = {
    job = job, execution = execution, worker = worker, uid = uid, next = known.next, spend = known.spend, class = known.class,
    delay = known.delay, exists = known.exists, body = body, exc = exc, result = result ~= '' and result or nil,
    value = value ~= '' and value or nil, started = started, ended = ended,
    -- What is found: written down here, the table has its size from the start.
    h = nil, q = nil, alone = nil, seq = nil, attempt = nil, fields = nil, ran = nil, state = nil,
  }
  for name in string.gmatch(names, '%S+') do
    last = last + 1
    x[name] = ARGV[last]
  end
  return x, last
end
-- A table with room for the fields: one that grows is moved at each power of two.
local function room()
  return {
    status = nil, origin = nil, created_at = nil, result_ttl = nil, failure_ttl = nil, ['hl:inc'] = nil, ['hl:src'] = nil,
    ['hl:seq'] = nil, ['hl:exec'] = nil, ['hl:worker'] = nil, ['hl:install'] = nil, ['hl:ns'] = nil, ['hl:job'] = nil,
    ['hl:uid'] = nil, ['hl:claimed'] = nil, ['hl:running'] = nil, ['hl:attempts'] = nil,
    ['hl:history'] = nil, ['hl:cancel'] = nil, ['hl:dedup'] = nil, ['hl:task'] = nil,
  }
end

local function answer(x, verdict, stored, text)
  local h = x.h or {}
  local out = { verdict, L.STATES[h.status or ''] or '', stored or '', text or '' }
  if verdict == 'applied' and x.exists and not h['hl:job'] then
    for _, name in ipairs({ 'hl:install', 'hl:ns', 'origin', 'hl:inc', 'hl:seq' }) do out[#out + 1] = h[name] or '' end
  end
  return out
end

-- The outcome written for this execution before, from the last outcome or the history.
local function written(x)
  local stored = call('HGET', K.job(x.job), 'hl:outcome')
  local last = stored and #stored <= L.FIELD_MAX and L.object(stored)
  if last and last.execution == x.execution then return stored end
  local _, lines = L.history(x.h['hl:history'])
  for i = #lines, 1, -1 do
    local entry = L.object(lines[i])
    if entry and entry.execution == x.execution then return lines[i] end
  end
  return nil
end

-- Whether an end is more than this call shall do beside others: it is long, may go through all queues, or has many
-- dependents.
local followed = {}
local function too_much(x, why)
  local h = x.h
  local weight = floor((#x.body + #(x.result or '') + #(h and h['hl:history'] or '')) / 1500)
  if why == 'missing' or (h and h['hl:exec'] ~= x.execution and L.stray(x.job, x.execution)) then weight = ENOUGH end
  if h and followed.any then
    x.alone = call('EXISTS', K.dependents(x.job), K.dependencies(x.job)) == 0
    local many = x.alone and 0 or try('SCARD', K.dependents(x.job))
    weight = weight + (type(many) == 'number' and min(many, ENOUGH) or ENOUGH)
  end
  if looked > 0 and looked + weight > ENOUGH then return true end
  looked = looked + weight
  return false
end

-- A cancel wins over whatever would have gone on or failed; RQ's own has told everybody already, so over success too.
local function overrule(x)
  local h = x.h
  if not L.cancelled(h) or x.next == 'cancel' then return end
  if x.next == 'complete' and h['hl:cancel'] and h.status == 'started' then return end
  local from = #'{"class":"","message":"' + #x.class + 1
  local function turned(body)
    return body and '{"class":"cancelled","message":"cancelled; its last attempt ended as ' .. x.class .. ': ' .. string.sub(body, from)
  end
  if x.instead then
    x.body, x.small = x.instead, x.instead_small
  elseif x.class ~= 'cancelled' then
    x.body, x.small = turned(x.body), turned(x.small)
  end
  x.next, x.class = 'cancel', 'cancelled'
end

local function budgets_of(x)
  local budgets, stored = {}, call('HGET', K.job(x.job), 'hl:budgets')
  for name, spent in pairs(stored and #stored <= L.FIELD_MAX and L.object(stored) or {}) do
    if type(name) == 'string' then budgets[name] = L.number(spent) end
  end
  budgets[x.class] = (budgets[x.class] or 0) + 1
  return cjson.encode(budgets)
end

-- What the attempt cost and leaves behind, and its times.
local function reckon(x)
  local h, fields = x.h, {}
  local function set(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  local attempts = L.num(h['hl:attempts'], 0)
  x.seq, x.attempt, x.fields = L.num(h['hl:seq'], 1), attempts + 1, fields
  if x.spend == 'attempt' then attempts = attempts + 1 end
  set('hl:attempts', L.int(attempts))
  if x.uid ~= '' and not h['hl:uid'] then
    local found = call('HMGET', K.job(x.job), 'hl:phase', 'hl:starts')
    h['hl:phase'], h['hl:starts'] = found[1] or nil, found[2] or nil
    L.recorded(h, x.uid, fields)
  end
  if x.spend == 'budget' then set('hl:budgets', budgets_of(x)) end
  if x.next ~= 'complete' then -- a job that is run again, by its rule or by a person, goes on
    if x.memory then set('hl:memory', x.memory) end
    if x.checkpoint then set('hl:checkpoint', x.checkpoint) end
  end
  if h['hl:rqmax'] then set('retries_left', L.int(max(L.num(h['hl:rqmax'], 1) - 1 - attempts, 0))) end -- what RQ's tools show
  -- Kubernetes tells whole seconds, by its nodes' clocks: nothing started before it was claimed or ended before it started.
  local claimed = L.num(h['hl:claimed'], nil)
  local seen = L.num(h['hl:running'], nil) or claimed
  x.ran = h['hl:running'] or x.started ~= ''
  x.started = tonumber(x.started) or (seen and min(seen, NOW))
  claimed = min(claimed or 0, NOW)
  if x.started then x.started = max(x.started, claimed) end
  x.ended = max(tonumber(x.ended) or NOW, x.started or claimed)
end

-- What the end of an attempt means beyond its job: its place, its Job's PATCH, the breaker, and a start that was none.
local uneasy = {}
local function aftermath(x)
  local q, h = x.q, x.h
  local member, name = L.leave(q, x.job, x.execution, h['hl:worker'], h['hl:install']), h['hl:job']
  if x.exists and name then L.owe_patch(h['hl:install'] or '', (h['hl:ns'] or '') .. '/' .. name, member) end
  if uneasy[q] == nil or x.class == 'image' then uneasy[q] = x.class == 'image' or call('EXISTS', K.breaker(q), K.trouble(q)) > 0 end
  if uneasy[q] and (x.class == 'image' or x.ran) then
    L.settle_held()
    L.breaker_ended(q, x.class, x.ran, member, x.class == 'image' and (L.object(x.body) or {}).message or '')
  end
  if not x.exists and not h['hl:uid'] then L.rate_return(q, member) end
end

local function write_retry(x, due)
  local job, h = x.job, x.h
  local known = { seq = x.seq, attempt = x.attempt, execution = x.execution, next = 'retry', started = x.started,
    ended = x.ended, delay = x.delay, spend = x.spend, memory = x.memory and tonumber(x.memory) }
  local outcome = L.outcome(x.body, known)
  local set = { 'status', due and 'scheduled' or 'queued', 'hl:outcome', outcome, 'hl:history',
    (L.history(h['hl:history'], x.small and L.outcome(x.small, known) or outcome)), 'ended_at', L.utc(x.ended, 999),
    'worker_name', '', 'hl:reason', x.class, 'enqueued_at', L.utc_now() }
  for _, value in ipairs(x.fields) do set[#set + 1] = value end
  if due then
    set[#set + 1] = 'hl:due'
    set[#set + 1] = L.int(due)
  end
  if h['hl:rqmax'] and call('HGET', K.job(job), 'enqueue_at_front_on_retry') == '1' then -- RQ's Retry asks for it
    h['hl:lifo'] = '1'
    set[#set + 1] = 'hl:lifo'
    set[#set + 1] = '1'
  end
  call('HSET', K.job(job), unpack(set))
  call('HDEL', K.job(job), 'hl:job', 'hl:uid', 'hl:claimed', 'hl:running', 'hl:evidence', unpack(L.EXECUTION_FIELDS))
  return outcome
end

local function retry(x)
  local q, h = x.q, x.h
  local due = x.delay > 0 and NOW + x.delay or nil
  local outcome = write_retry(x, due)
  L.settle_held()
  L.place(q, x.job, h, false, due)
  if due then L.gather_ring(q) end -- its place is free for another
  L.gather_count(q, 'retrying')
  L.gather_count(q, 'outcome:' .. x.class .. ':0')
  L.emit(q, 'retrying', x.job, 'class', x.class, 'execution', x.execution, 'attempt', L.int(x.attempt), 'seq', L.int(x.seq),
    'delay', L.int(x.delay), 'uid', h['hl:uid'] or '', 'worker', h['hl:worker'] or '')
  try('XADD', K.outbox, 'MAXLEN', '~', '10000', '*', 'event', 'retrying', 'job', x.job, 'queue', q, 'class', x.class,
    'final', '0', 'at', NOW_MS)
  local hold = tonumber(x.hold or '0')
  if hold > 0 and hold > max(call('PTTL', K.hold(q)), 0) then
    try('SET', K.hold(q), x.job, 'PX', L.int(hold))
    L.emit(q, 'rate-limited', x.job, 'ms', L.int(hold), 'execution', x.execution)
  end
  aftermath(x)
  h.status = due and 'scheduled' or 'queued'
  return answer(x, 'applied', outcome)
end

local function over(x)
  local h, state = x.h, STATE[x.next]
  x.state, x.worker, x.history = state, h['hl:worker'] or '', x.small
  if x.next ~= 'complete' then x.result = nil end
  local outcome = L.over(x.q, x.job, h, x)
  aftermath(x)
  h.status = L.STATUS[state]
  return answer(x, 'applied', outcome)
end

-- Why this end is not written: verdict, stored outcome or nil, sentence; nil = it may be.
local function refused(x, why, message)
  local h = x.h
  local verdict, reason = L.fence(h, why, message, x)
  local stored = h and verdict == 'refused' and written(x)
  if stored then return 'already', stored, '' end
  x.q = h and h.origin
  if not verdict and x.next == 'retry' then
    for name, value in pairs(L.load(x.job, L.PLACED) or {}) do h[name] = value end
    local wrong = L.unfit(x.q, h)
    if wrong then verdict, reason = 'corrupt', wrong end
  end
  if verdict then L.refuse(x.q, verdict) end
  return verdict, nil, reason
end

local function finish(x)
  local h, why, message = L.load(x.job, FIELDS, room())
  x.h, x.alone = h, not followed.any
  if ends > 1 and too_much(x, why) then return redis.error_reply('TRYAGAIN one call does not do so much: ask for this end alone') end
  local verdict, stored, reason = refused(x, why, message)
  if verdict then return answer(x, verdict, stored, reason) end
  overrule(x)
  reckon(x)
  return (x.next == 'retry' and retry or over)(x)
end

local given, waiting, answers, at = {}, {}, {}, 2
while at < #ARGV do
  ends = ends + 1
  given[ends], at = read(at)
  waiting[2 * ends - 1], waiting[2 * ends] = K.dependents(given[ends].job), K.dependencies(given[ends].job)
end
followed.any = call('EXISTS', unpack(waiting)) > 0
for n = 1, ends do
  local ok, found = pcall(finish, given[n])
  if not ok and type(found) ~= 'table' then found = redis.error_reply('ERR ' .. tostring(found)) end
  answers[n] = found
end
L.settle()
return answers
