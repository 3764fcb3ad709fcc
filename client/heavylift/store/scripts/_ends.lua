-- Ends of attempts and of jobs. Each job's own keys are written at once; what several ends of one call write into the same
-- keys (registries, indexes, the width, counters, what waits for its PATCH), and the removal of old jobs that follows, is
-- gathered and written once for all by L.settle, which a script calls when it has judged the last of them.
-- Opened when first used.
local int = L.int
local groups, queues = {}, {} -- by queue, and in their order
local installs, workers = {}, {} -- members of what ended, by install and by worker
local gone, todo = {}, {} -- keys to delete; jobs whose dependents need no further look

local function add(list, a, b)
  local n = #list
  list[n + 1] = a
  if b then list[n + 2] = b end
end

local function group(q)
  local g = groups[q]
  if not g then
    g = { members = {}, counts = {}, states = {}, held = {}, ring = false }
    groups[q] = g
    queues[#queues + 1] = q
  end
  return g
end

local function of_state(q, state)
  local states = group(q).states
  local own = states[state]
  if not own then
    own = { keep = L.keep(q, state), registry = {}, ended = {}, ids = {}, theirs = {} }
    states[state] = own
  end
  return own
end

local function of_install(install)
  local own = installs[install]
  if not own then
    own = { members = {}, due = {}, owners = {} }
    installs[install] = own
  end
  return own
end

function L.gather_count(q, name)
  local counts = group(q).counts
  counts[name] = (counts[name] or 0) + 1
end
function L.gather_ring(q) group(q).ring = true end

-- The current execution of a job is over: RQ's keys of it, its place in the install's width and among those of its key.
-- Returns its member there.
function L.leave(q, job, execution, worker, install)
  local member = job .. ':' .. execution
  add(group(q).members, member)
  add(gone, K.execution(job, execution), K.executions(job))
  if worker and worker ~= '' then
    workers[worker] = workers[worker] or {}
    add(workers[worker], member)
  end
  if install and install ~= '' then add(of_install(install).members, member) end
  return member
end

-- A Job that waits for its finishing PATCH: `member` = namespace/name.
function L.owe_patch(install, member, owner)
  local own = of_install(install)
  add(own.due, NOW_MS, member)
  add(own.owners, member, owner)
end

-- History is a JSON list with one entry a line (compact JSON holds no line break), so that it is cut without decoding.
function L.history(old, entry)
  local lines = {}
  if not old and entry then return '[\n' .. entry .. '\n]', { entry } end
  if old then
    for line in string.gmatch(old, '[^\n]+') do
      if string.sub(line, 1, 1) == '{' then lines[#lines + 1] = (string.gsub(line, ',$', '')) end
    end
  end
  if entry then lines[#lines + 1] = entry end
  local from = max(#lines - 19, 1)
  return '[\n' .. table.concat(lines, ',\n', from) .. '\n]', lines
end

local function quoted(text) return string.match(text, '^%w+%-%d+$') and '"' .. text .. '"' or cjson.encode(text) end
-- One outcome as JSON text: what the script knows in front of the given body `{"class":...}`.
function L.outcome(body, known)
  return '{"seq":' .. int(known.seq) .. ',"attempt":' .. int(known.attempt) .. ',"execution":'
    .. quoted(known.execution or '') .. ',"next":"' .. known.next .. '","at":' .. NOW_MS
    .. ',"startedAt":' .. (known.started and int(known.started) or 'null')
    .. ',"endedAt":' .. int(known.ended or NOW) .. ',"delayMs":' .. int(known.delay or 0)
    .. ',"spend":"' .. (known.spend or 'none') .. '"' .. (known.memory and ',"memory":' .. int(known.memory) or '')
    .. ',' .. string.sub(body, 2)
end

-- Seconds with three decimals, from milliseconds.
local function in_seconds(ms)
  local text = int(ms)
  if #text < 4 or ms < 0 then return format('%.3f', ms / 1000) end
  return string.sub(text, 1, -4) .. '.' .. string.sub(text, -3)
end

-- RQ's stream of results.
local function tell_rq(stream, e)
  local told
  if e.started and e.execution ~= '' then
    told = { 'worker_name', e.worker, 'execution_id', e.execution, 'execution_started_at', in_seconds(e.started),
      'execution_ended_at', in_seconds(e.ended) }
  else
    told = { 'worker_name', e.worker or '' }
    if e.execution ~= '' then add(told, 'execution_id', e.execution) end
  end
  if e.state == 'completed' and e.value then
    try('XADD', stream, 'MAXLEN', '10', '*', 'type', '1', 'return_value', e.value, unpack(told))
  elseif e.state == 'completed' then
    try('XADD', stream, 'MAXLEN', '10', '*', 'type', '1', unpack(told))
  elseif e.state == 'failed' then
    try('XADD', stream, 'MAXLEN', '10', '*', 'type', '2', 'exc_string', e.exc or '', unpack(told))
  end
end

-- The outcome into the job's hash; returns it.
local function write_outcome(key, h, e)
  local known = { seq = e.seq, attempt = e.attempt, execution = e.execution, next = L.NEXT[e.state],
    started = e.started, ended = e.ended, spend = e.spend }
  local outcome = L.outcome(e.body, known)
  local entry = e.history and L.outcome(e.history, known) or outcome
  local more = e.fields or {}
  if e.result then add(more, 'hl:result', e.result) end
  call('HSET', key, 'status', L.STATUS[e.state], 'ended_at', L.utc(e.ended or NOW, 999), -- not before a start in the same ms
    'hl:ended', NOW_MS, 'hl:outcome', outcome, 'hl:history', (L.history(h['hl:history'], entry)), unpack(more))
  call('HDEL', key, 'hl:reason', 'hl:due', unpack(e.state == 'completed' and L.SPENT or L.EXECUTION_FIELDS))
  return outcome
end

-- How long (s) what ended stays: in RQ's registry, and the job's own keys.
local function lives(h, e, keep)
  local ttl = floor(keep.age / 1000)
  local asked = L.num(e.state == 'completed' and h.result_ttl or h.failure_ttl, -1)
  if asked >= 0 then ttl = max(min(ttl, asked), 60) end -- repeats of this finish must still meet the outcome
  -- `rq requeue` leaves the expiry on a job that waits again; retention removes the others in time.
  return ttl, int((e.state == 'failed' and asked < 0) and ttl + L.REQUEUED_S or ttl)
end

-- Give back the deduplication keys of what ended so far: a follower goes on before whatever else comes to wait.
function L.settle_held()
  for _, q in ipairs(queues) do
    local held = groups[q].held
    groups[q].held = {}
    if #held > 0 then L.dedup_ends(q, held) end
  end
end

-- Write a terminal state; the rest follows with L.settle. The job's hash is checked; everything else here is secondary.
--   e = {state, body, class, history (text of the small entry's body, nil = the same), exc, result, value, execution, seq,
--        attempt, started, ended, spend, worker, fields (more to set), alone (nobody depends on it, nil = look)}
function L.over(q, job, h, e)
  local key, results = K.job(job), K.results(job)
  local outcome, own = write_outcome(key, h, e), of_state(q, e.state)
  local ttl, last = lives(h, e, own.keep)
  add(own.registry, int(NOW_S + ttl), job)
  add(own.ended, NOW_MS, job)
  add(own.ids, job)
  if h.status ~= 'started' or not h['hl:task'] then add(own.theirs, job) end -- a claim of ours left no index of ours behind
  L.gather_count(q, e.state)
  L.gather_count(q, 'outcome:' .. e.class .. ':1')
  L.gather_ring(q)
  tell_rq(results, e)
  local followed = not e.alone and call('EXISTS', K.dependents(job), K.dependencies(job)) > 0
  try('EXPIRE', key, last)
  try('EXPIRE', results, last)
  if followed then
    try('EXPIRE', K.dependents(job), last)
    try('EXPIRE', K.dependencies(job), last)
  end
  L.emit(q, e.state, job, 'final', '1', 'class', e.class, 'execution', e.execution or '', 'attempt',
    int(e.attempt), 'seq', int(e.seq), 'worker', e.worker or '', 'uid', h['hl:uid'] or '')
  try('XADD', K.outbox, 'MAXLEN', '~', '10000', '*', 'event', e.state, 'job', job, 'queue', q, 'class', e.class,
    'final', '1', 'at', NOW_MS)
  call('PUBLISH', K.done(job), e.state)
  if h['hl:dedup'] then add(group(q).held, { h['hl:dedup'], job, e.state }) end
  if followed or not h['hl:task'] then L.settle_held() end
  if not h['hl:task'] then L.rq_unpark(job) end
  if followed then L.free_dependents(job, e.state, 50) else todo[#todo + 1] = job end
  return outcome
end

local function settle_state(q, state, own)
  try('ZADD', K.registry(L.REGISTRY[state], q), unpack(own.registry))
  try('ZADD', K.ended(q, state), unpack(own.ended))
  for other, name in pairs(L.REGISTRY) do
    if other ~= state then
      try('ZREM', K.registry(name, q), unpack(own.ids)) -- RQ leaves a job there that was cancelled and then enqueued again
      if #own.theirs > 0 then try('ZREM', K.ended(q, other), unpack(own.theirs)) end
    end
  end
  L.trim(q, state, 19 + #own.ids, own.keep)
end

local function settle_queue(q, g)
  if #g.members > 0 then
    try('ZREM', K.started(q), unpack(g.members))
    local keys, any = try('HMGET', K.keyof(q), unpack(g.members)), false
    for i = 1, #g.members do any = any or type(keys[i]) == 'string' end
    if any and L.keys_end(q, g.members, keys) then g.ring = true end
  end
  for name, n in pairs(g.counts) do L.count(q, name, n) end
  if g.ring then try('PUBLISH', K.doorbell, q) end
  for state, own in pairs(g.states) do settle_state(q, state, own) end
end

function L.settle()
  L.settle_held()
  if #gone > 0 then try('DEL', unpack(gone)) end
  for worker, members in pairs(workers) do try('SREM', K.worker_executions(worker), unpack(members)) end
  for install, own in pairs(installs) do
    if #own.members > 0 then try('ZREM', K.inflight(install), unpack(own.members)) end
    if #own.due > 0 then
      try('ZADD', K.unfinalized(install), unpack(own.due))
      try('HSET', K.unfinalized_jobs(install), unpack(own.owners))
    end
  end
  if #todo > 0 then try('SREM', K.todo, unpack(todo)) end
  for _, q in ipairs(queues) do settle_queue(q, groups[q]) end
  groups, queues, installs, workers, gone, todo = {}, {}, {}, {}, {}, {}
end

-- One end by itself, with all that follows from it.
function L.finish(q, job, h, e)
  local outcome = L.over(q, job, h, e)
  L.settle()
  return outcome
end
