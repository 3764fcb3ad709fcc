-- Schedules: one hash each, and one index of all by the time somebody should look at them next.
-- Fields: definition (JSON), revision, timing (JSON), queue, prefix (of its jobs' ids), mark (ticks up to here are
-- decided), next, last (tick fired), lastAt, lastJob, fired, missed, skipped, jobs (ids, those unfinished at the last
-- look), suspended (by whom), suspendedAt, problem, created, updated, by; install, namespace, name, uid, generation of
-- the HeavySchedule it came from. Times are ms.
K.schedules = US .. ':schedules'
K.failing = US .. ':schedules-failing'
function K.schedule(id) return US .. ':schedule:' .. id end

L.SCHEDULE_JOBS = 50 -- unfinished jobs a schedule remembers
L.REPLACED = 4 -- jobs that one call cancels
L.LOOK_AGAIN = 30000 -- when something outside keeps a tick from being fired

function L.schedule_id(id) return #id <= 400 and string.match(id, '^[%w_./-]+$') ~= nil end

-- A schedule's hash as a table, or nil and `missing` | `corrupt` and a sentence.
function L.schedule(id)
  local key = K.schedule(id)
  local wrong = L.wrong(K.schedules, 'zset', key, 'hash')
  if wrong then return nil, 'corrupt', wrong end
  local flat, h = call('HLEN', key) <= 100 and call('HGETALL', key) or { 'fields', 'too many' }, {}
  if #flat == 0 then return nil, 'missing', 'there is no schedule ' .. string.sub(id, 1, 200) end
  for i = 1, #flat, 2 do
    if #flat[i + 1] <= L.FIELD_MAX then h[flat[i]] = flat[i + 1] end
  end
  local named = h.queue and h.queue ~= '' and #h.queue <= 512 and h.prefix and L.schedule_id(id)
  -- As decisions are compared with them, byte by byte: what reads otherwise than it stands could never be decided.
  local mark = h.mark == '0' or (string.match(h.mark or '', '^-?[1-9]%d*$') and L.num(h.mark, nil))
  if not (named and mark and h.definition and string.match(h.revision or '', '^%x+$')) then
    return nil, 'corrupt', 'the key ' .. string.sub(key, 1, 300) .. ' is not a schedule of ours: look at it, then delete it'
  end
  return h
end

-- Those of a schedule's jobs that have not ended, newest last.
function L.unfinished(h)
  local found, looked = {}, 0
  for job in string.gmatch(h.jobs or '', '%S+') do
    looked = looked + 1
    if looked > L.SCHEDULE_JOBS then break end
    local status = try('HGET', K.job(job), 'status')
    local state = type(status) == 'string' and L.STATES[status]
    if state == 'waiting' or state == 'delayed' or state == 'active' or state == 'waiting-children' then
      found[#found + 1] = job
    end
  end
  return found
end
function L.uncancelled(jobs)
  local found = {}
  for _, job in ipairs(jobs) do
    if not call('HGET', K.job(job), 'hl:cancel') then found[#found + 1] = job end
  end
  return found
end
function L.remember(jobs, job)
  for _, known in ipairs(jobs) do
    if known == job then return table.concat(jobs, ' ') end
  end
  jobs[#jobs + 1] = job
  return table.concat(jobs, ' ', max(#jobs - L.SCHEDULE_JOBS + 1, 1))
end

-- Have it looked at when its next tick comes; never, while it is suspended or over.
function L.look(id, next_, suspended)
  call('ZADD', K.schedules, (suspended or not next_) and '+inf' or L.int(next_), id)
  try('ZREM', K.failing, id)
end

-- Nothing is decided: the same ticks are looked at again, late ones then as the catch-up policy says.
function L.defer(id, h, problem)
  if h.problem ~= problem then
    call('HSET', K.schedule(id), 'problem', problem)
    L.emit(h.queue, 'schedule-deferred', '', 'schedule', id, 'reason', string.sub(problem, 1, 500))
  end
  if not h.suspended then call('ZADD', K.schedules, L.int(NOW + L.LOOK_AGAIN), id) end
  try('ZADD', K.failing, L.int(L.num(h.next, NOW)), id)
  return { 'applied', problem }
end

-- Why a schedule's queue takes no job of it, or nil: a HeavySchedule fires into its own namespace only.
function L.unserved(h)
  local set, wrong = L.settings(h.queue)
  if not set then return wrong or 'no HeavyQueue serves the queue ' .. h.queue end
  if (h.uid or '') ~= '' and (set.namespace ~= h.namespace or set.install ~= h.install) then
    return 'the queue ' .. h.queue .. ' is served in namespace ' .. set.namespace .. ', not in ' .. (h.namespace or '?')
  end
  return nil
end

-- One schedule for a reply: {id, {field, value, ...}}, `jobs` only those unfinished.
function L.schedule_row(id, h)
  h.jobs = table.concat(L.unfinished(h), ' ')
  return { id, L.flat(h) }
end

function L.foreign(h)
  return 'it belongs to the HeavySchedule ' .. (h.namespace or '?') .. '/' .. (h.name or '?') .. ': change that'
end
