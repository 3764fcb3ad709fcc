-- Write one outcome, once per execution.
-- ARGV: prefix, prefix, job, execution, worker or '', UID or '', next complete|fail|cancel|retry, spend
--   attempt|budget|none, class, delay ms, body JSON {"class":...}, small body for the history or '' = the same,
--   exception text as RQ stores it (of a failure), body, small body or '' if a cancel wins, result JSON or '', result
--   as RQ stores it or '', started ms or '', ended ms or '', a Job exists '1'|'0', Job name or '', memory of the next
--   attempt in bytes or '', checkpoint JSON or '' to keep the old one, ms to hold the queue back for.
-- Returns: {verdict, state, stored outcome JSON, message, install, namespace, Job name, queue, incarnation, seq}.
local f = L.fence_arguments()
local next_, spend, class, delay = ARGV[7], ARGV[8], ARGV[9], tonumber(ARGV[10])
local body, small = ARGV[11], ARGV[12]
local FIELDS = {
  'status', 'origin', 'created_at', 'result_ttl', 'failure_ttl', 'enqueued_at', 'enqueue_at_front', 'hl:inc', 'hl:src',
  'hl:seq', 'hl:exec', 'hl:worker', 'hl:install', 'hl:ns', 'hl:phase', 'hl:job', 'hl:uid', 'hl:claimed', 'hl:running',
  'hl:priority', 'hl:attempts', 'hl:starts', 'hl:budgets', 'hl:history', 'hl:outcome', 'hl:cancel', 'hl:dedup', 'hl:rqmax',
  'hl:key', 'hl:lifo', 'hl:task',
}
local h, why, message = L.load(f.job, FIELDS)

local function reply(verdict, stored, text)
  h = h or {}
  return { verdict, L.STATES[h.status or ''] or '', stored or '', text or '', h['hl:install'] or '', h['hl:ns'] or '',
    h['hl:job'] or '', h.origin or '', h['hl:inc'] or '', h['hl:seq'] or '0' }
end

-- The outcome written for this execution before, from the last outcome or the history.
local function written()
  local last = L.object(h['hl:outcome'])
  if last and last.execution == f.execution then return h['hl:outcome'] end
  local _, lines = L.history(h['hl:history'])
  for i = #lines, 1, -1 do
    local entry = L.object(lines[i])
    if entry and entry.execution == f.execution then return lines[i] end
  end
  return nil
end

local function remember_job(q)
  local name = h['hl:job'] or ARGV[21]
  if ARGV[20] ~= '1' or name == '' then return end
  local member = (h['hl:ns'] or '') .. '/' .. name
  try('ZADD', K.unfinalized(h['hl:install'] or ''), L.int(NOW), member)
  try('HSET', K.unfinalized_jobs(h['hl:install'] or ''), member, f.job .. ':' .. f.execution)
end

local verdict, reason = L.fence(h, why, message, f)
if h and verdict == 'refused' then
  local stored = written()
  if stored then return reply('already', stored) end
end
local q = h and h.origin
if not verdict and next_ == 'retry' then
  local wrong = L.unfit(q, h)
  if wrong then verdict, reason = 'corrupt', wrong end
end
if verdict then
  L.refuse(q, verdict)
  return reply(verdict, nil, reason)
end

-- A cancel wins over whatever would have gone on or failed; RQ's own has told everybody already, so over success too.
if L.cancelled(h) and next_ ~= 'cancel' and (next_ ~= 'complete' or not h['hl:cancel'] or h.status ~= 'started') then
  next_, class, body, small = 'cancel', 'cancelled', ARGV[14], ARGV[15]
end
local attempts, seq = L.num(h['hl:attempts'], 0), L.num(h['hl:seq'], 1)
local attempt = attempts + 1
if spend == 'attempt' then attempts = attempts + 1 end
local fields = { 'hl:attempts', L.int(attempts) }
L.recorded(h, f.uid, fields)
if spend == 'budget' then
  local budgets = {}
  for name, spent in pairs(L.object(h['hl:budgets']) or {}) do
    if type(name) == 'string' then budgets[name] = L.number(spent) end
  end
  budgets[class] = (budgets[class] or 0) + 1
  fields[#fields + 1] = 'hl:budgets'
  fields[#fields + 1] = cjson.encode(budgets)
end
for i, name in ipairs({ 'hl:memory', 'hl:checkpoint' }) do -- a job that is run again, by its rule or by a person, goes on
  if ARGV[21 + i] ~= '' and next_ ~= 'complete' then
    fields[#fields + 1] = name
    fields[#fields + 1] = ARGV[21 + i]
  end
end
if h['hl:rqmax'] then -- what RQ's tools show
  fields[#fields + 1] = 'retries_left'
  fields[#fields + 1] = L.int(max(L.num(h['hl:rqmax'], 1) - 1 - attempts, 0))
end
-- Kubernetes tells whole seconds, by its nodes' clocks: nothing started before it was claimed or ended before it started.
local claimed = min(L.num(h['hl:claimed'], 0), NOW)
local seen = L.num(h['hl:running'], nil) or L.num(h['hl:claimed'], nil)
local started = tonumber(ARGV[18]) or (seen and min(seen, NOW))
if started then started = max(started, claimed) end
local ended = max(tonumber(ARGV[19]) or NOW, started or claimed)
local worker = h['hl:worker'] or ''

-- What the end of an attempt means beyond its job: the breaker, and a start that was none.
local function aftermath()
  local ran, member = h['hl:running'] or ARGV[18] ~= '', f.job .. ':' .. f.execution
  if class == 'image' or (ran and call('EXISTS', K.breaker(q), K.trouble(q)) > 0) then
    L.breaker_ended(q, class, ran, member, class == 'image' and (L.object(body) or {}).message or '')
  end
  if ARGV[20] ~= '1' and not h['hl:uid'] then L.rate_return(q, member) end
end

if next_ == 'retry' then
  local due = delay > 0 and NOW + delay or nil
  local known = { seq = seq, attempt = attempt, execution = f.execution, next = 'retry', started = started,
    ended = ended, delay = delay, spend = spend, memory = tonumber(ARGV[22]) }
  local outcome = L.outcome(body, known)
  local set = { 'status', due and 'scheduled' or 'queued', 'hl:outcome', outcome, 'hl:history',
    (L.history(h['hl:history'], small ~= '' and L.outcome(small, known) or outcome)), 'ended_at', L.utc(ended, 999), 'worker_name', '',
    'hl:reason', class, 'enqueued_at', L.utc_now() }
  for _, value in ipairs(fields) do set[#set + 1] = value end
  if due then
    set[#set + 1] = 'hl:due'
    set[#set + 1] = L.int(due)
  end
  if h['hl:rqmax'] and call('HGET', K.job(f.job), 'enqueue_at_front_on_retry') == '1' then -- RQ's Retry asks for it
    h['hl:lifo'] = '1'
    set[#set + 1] = 'hl:lifo'
    set[#set + 1] = '1'
  end
  call('HSET', K.job(f.job), unpack(set))
  call('HDEL', K.job(f.job), 'hl:job', 'hl:uid', 'hl:claimed', 'hl:running', 'hl:evidence', unpack(L.EXECUTION_FIELDS))
  L.place(q, f.job, h, false, due)
  remember_job(q)
  L.forget(q, f.job, f.execution, worker, h['hl:install'])
  if due then call('PUBLISH', K.doorbell, q) end -- its place is free for another
  L.count(q, 'retrying')
  L.count(q, 'outcome:' .. class .. ':0')
  L.emit(q, 'retrying', f.job, 'class', class, 'execution', f.execution, 'attempt', L.int(attempt), 'seq', L.int(seq),
    'delay', L.int(delay), 'uid', h['hl:uid'] or '', 'worker', worker)
  try('XADD', K.outbox, 'MAXLEN', '~', 10000, '*', 'event', 'retrying', 'job', f.job, 'queue', q, 'class', class,
    'final', '0', 'at', L.int(NOW))
  local hold = tonumber(ARGV[24])
  if hold > max(call('PTTL', K.hold(q)), 0) then
    try('SET', K.hold(q), f.job, 'PX', L.int(hold))
    L.emit(q, 'rate-limited', f.job, 'ms', L.int(hold), 'execution', f.execution)
  end
  aftermath()
  h.status = due and 'scheduled' or 'queued'
  return reply('applied', outcome)
end

local states = { complete = 'completed', fail = 'failed', cancel = 'cancelled' }
remember_job(q)
local outcome = L.finish(q, f.job, h, { state = states[next_], body = body, history = small ~= '' and small or nil, class = class,
  exc = ARGV[13], result = next_ == 'complete' and ARGV[16] ~= '' and ARGV[16] or nil,
  value = ARGV[17] ~= '' and ARGV[17] or nil, execution = f.execution, seq = seq, attempt = attempt, started = started,
  ended = ended, spend = spend, worker = worker, fields = fields })
L.forget(q, f.job, f.execution, worker, h['hl:install'])
aftermath()
h.status = L.STATUS[states[next_]]
return reply('applied', outcome)
