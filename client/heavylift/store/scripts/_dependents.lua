-- Letting go of the jobs that depend on an ended one.
-- Opened when first used.
-- Whether all of a dependent's dependencies but `parent` are met, as RQ counts: finished, gone, or failed if allowed.
function L.met(job, h, parent)
  local ids = try('SMEMBERS', K.dependencies(job))
  if type(ids) ~= 'table' or ids.err then return true end
  for _, id in ipairs(ids) do
    if id ~= parent then
      local status = try('HGET', K.job(id), 'status')
      if type(status) == 'string' and status ~= 'finished'
        and not (status == 'failed' and h.allow_dependency_failures == '1') then
        return false
      end
    end
  end
  return true
end

L.DEPENDENT = {
  'status', 'origin', 'allow_dependency_failures', 'hl:due', 'hl:priority', 'hl:key', 'hl:lifo', 'enqueued_at', 'enqueue_at_front',
}

-- A deferred job whose dependencies are met waits (or is delayed still).
function L.undefer(q, job, h, reason)
  local due = L.num(h['hl:due'], nil)
  local delayed = due and due > NOW
  call('HSET', K.job(job), 'status', delayed and 'scheduled' or 'queued', 'enqueued_at', L.utc_now())
  L.place(q, job, h, h.enqueue_at_front == '1', due)
  try('ZREM', K.registry('deferred', q), job)
  L.emit(q, delayed and 'delayed' or 'waiting', job, 'reason', reason or 'dependencies met')
end

-- Whether claims still let go of a completed job's dependents: they go on when the job itself is removed.
function L.frees(job, state)
  return state == 'completed' and L.type(K.todo) == 'set' and call('SISMEMBER', K.todo, job) == 1
end

-- Let go of the dependents of an ended job, a bounded number now. Those of a success leave its set whether they go or
-- wait for others (whose end looks at them again); the rest follows by later claims (key `dependents`). Those of a
-- failure stay in it, unless they allow failures: it may be retried. A cancelled job lets none go, as in RQ.
function L.free_dependents(job, state, limit)
  local key = K.dependents(job)
  if state == 'cancelled' or L.type(key) ~= 'set' then
    try('SREM', K.todo, job)
    return
  end
  local success, stuck = state == 'completed', false
  for _, id in ipairs(call('SRANDMEMBER', key, success and limit or limit * 10)) do
    local h = L.load(id, L.DEPENDENT)
    local q = h and h.origin
    if not h or h.status ~= 'deferred' then
      call('SREM', key, id)
    elseif success or (state == 'failed' and h.allow_dependency_failures == '1') then
      local met = q and L.met(id, h, job)
      local unfit = met and L.unfit(q, h)
      if met and not unfit then L.undefer(q, id, h) end
      if unfit then stuck = true else call('SREM', key, id) end -- once its queue's keys are mended, it goes
    end
  end
  if stuck or (success and call('SCARD', key) > 0) then
    try('SADD', K.todo, job)
    try('PERSIST', key) -- it may outlive the job
  else
    try('SREM', K.todo, job)
  end
end
