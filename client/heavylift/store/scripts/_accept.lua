-- How a job is accepted: shared by `enqueue` and `fire`.
local function refuse(e, code, message, state) return { e.id, '0', state or 'failed', code, message } end

local function conflicts(e, h)
  if h.origin ~= e.queue then return 'the id ' .. e.id .. ' belongs to another queue, ' .. (h.origin or '?') end
  if not h['hl:fp'] or h['hl:fp'] ~= e.fingerprint then
    return 'the id ' .. e.id .. ' was enqueued with another task or other data'
  end
  return nil
end

-- Ids of dependencies that keep the job from waiting, as RQ counts: one that is gone is met.
local function unmet(e)
  for _, id in ipairs(e.depends) do
    local status = try('HGET', K.job(id), 'status')
    if type(status) == 'string' and status ~= 'finished' then return true end
  end
  return false
end

local function write(e)
  local created, key = L.utc_now(), K.job(e.id)
  local deferred = #e.depends > 0 and unmet(e)
  local due = e.delay > 0 and NOW + e.delay or nil
  local status = deferred and 'deferred' or due and 'scheduled' or 'queued'
  local set = {
    'created_at', created, 'data', e.data, 'success_callback_name', '', 'failure_callback_name', '',
    'stopped_callback_name', '', 'started_at', '', 'ended_at', '', 'last_heartbeat', '', 'worker_name', '',
    'group_id', '', 'origin', e.queue, 'description', e.description, 'enqueued_at', created, 'timeout', '-1',
    'status', status, 'hl:inc', e.incarnation, 'hl:src', redis.sha1hex(e.id .. '\n' .. created), 'hl:task', e.task,
    'hl:enqueued', L.int(NOW), 'hl:options', e.options, 'hl:fp', e.fingerprint, 'hl:seq', '0', 'hl:attempts', '0',
  }
  local function add(name, value)
    set[#set + 1] = name
    set[#set + 1] = value
  end
  if due then add('hl:due', L.int(due)) end
  if e.expires then add('hl:expires', L.int(NOW + e.expires)) end
  if e.trace ~= '' then add('hl:trace', e.trace) end
  if e.priority ~= 0 then add('hl:priority', L.int(e.priority)) end
  if #e.depends > 0 then
    add('dependency_id', e.depends[1])
    add('dependency_ids', cjson.encode(e.depends))
  end
  call('HSET', key, unpack(set))
  call('PERSIST', key)
  if deferred then
    for _, id in ipairs(e.depends) do
      call('SADD', K.dependents(id), e.id)
      call('SADD', K.dependencies(e.id), id)
    end
    call('ZADD', K.registry('deferred', e.queue), NOW_S, e.id)
    call('SADD', K.queues, K.queue(e.queue))
  else
    L.place(e.queue, e.id, { ['hl:priority'] = L.int(e.priority) }, false, due)
  end
  try('SET', K.epoch, L.int(NOW) .. '-' .. e.incarnation, 'NX')
  L.count(e.queue, 'enqueued')
  local state = L.STATES[status]
  L.emit(e.queue, 'added', e.id, 'state', state, 'task', e.task)
  return { e.id, '1', state, '', '' }
end

local function unfit(e)
  local wrong = L.unfit(e.queue, { ['hl:priority'] = L.int(e.priority) })
    or L.wrong(K.registry('deferred', e.queue), 'zset', K.dependencies(e.id), 'set')
  for _, id in ipairs(e.depends) do wrong = wrong or L.wrong(K.dependents(id), 'set') end
  return wrong
end

local function again(e, h)
  local state = L.STATES[h.status or ''] or 'waiting'
  if h['hl:inc'] == e.incarnation then return { e.id, '1', state, '', '' } end
  if e.if_exists == 'raise' then
    return refuse(e, 'exists', 'a job with the id ' .. e.id .. ' exists already (' .. state .. ')', state)
  end
  local conflict = conflicts(e, h)
  if conflict then return refuse(e, 'conflict', conflict, state) end
  local ended = state == 'completed' or state == 'failed' or state == 'cancelled'
  local function busy()
    return refuse(e, 'conflict', 'the job ' .. e.id .. ' still has a pod: try again once it ended', state)
  end
  if e.if_exists == 'replace' then
    if state == 'active' or h['hl:exec'] then return busy() end -- RQ's own cancel leaves it behind for a moment
    L.displace(e.queue, e.id, h)
    L.remove(e.queue, e.id, ended and state or 'failed')
    L.emit(e.queue, 'removed', e.id, 'reason', 'replaced', 'final', ended and '0' or '1')
    return write(e)
  end
  if e.if_exists == 'retry_failed' and (state == 'failed' or state == 'cancelled') then
    if h['hl:exec'] then return busy() end
    L.revive(e.queue, e.id, h, nil)
    return { e.id, '0', 'waiting', '', '' }
  end
  return { e.id, '0', state, '', '' }
end

-- One entry, all or nothing, safe to repeat: {id, '1' created | '0', state, error | '', message}.
-- e = {queue, id, task, data, incarnation, if_exists, fingerprint, delay, expires or nil, options, description, trace,
--      strict, priority, depends}
function L.accept(e)
  local wrong = unfit(e)
  if wrong then return refuse(e, 'corrupt', wrong) end
  local h, why, message = L.load(e.id)
  if why == 'corrupt' then return refuse(e, 'corrupt', message) end
  if h then return again(e, h) end
  if e.strict and L.type(K.settings(e.queue)) ~= 'hash' then
    return refuse(e, 'unknown-queue', 'no HeavyQueue serves the queue ' .. e.queue)
  end
  return write(e)
end

-- The entry that begins at ARGV[i], and where the next one begins.
function L.entry(i)
  local e = {
    queue = ARGV[i], id = ARGV[i + 1], task = ARGV[i + 2], data = ARGV[i + 3], incarnation = ARGV[i + 4],
    if_exists = ARGV[i + 5], fingerprint = ARGV[i + 6], delay = tonumber(ARGV[i + 7]), expires = tonumber(ARGV[i + 8]),
    options = ARGV[i + 9], description = ARGV[i + 10], trace = ARGV[i + 11], strict = ARGV[i + 12] == '1',
    priority = tonumber(ARGV[i + 13]), depends = {},
  }
  local n = tonumber(ARGV[i + 14])
  for d = 1, n do e.depends[d] = ARGV[i + 14 + d] end
  return e, i + 15 + n
end
