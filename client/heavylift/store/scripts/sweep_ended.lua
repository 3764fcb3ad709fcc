-- One bounded step of a sweep over RQ's registries of ended jobs: a job that RQ ended by itself (a worker of RQ that took it,
-- Job.cancel, stop-job) comes into the index of ended jobs, so that lists, bulk retries, purges and retention know it.
-- ARGV: prefix, prefix, queue, where to go on (0 begins), step.
-- Returns: {where to go on, or -1 = done, how many came in}.
local q, from, step = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

-- When a job ended (ms), as RQ wrote it; a cancel of RQ's says nothing.
local function ended(h)
  local at = L.parse_utc(h.ended_at)
  return at and at >= 0 and at <= NOW and at or NOW
end

local function come_in(job, state)
  local h = L.load(job, { 'status', 'origin', 'ended_at', 'hl:exec' })
  if not h or h.origin ~= q or h['hl:exec'] or L.STATES[h.status or ''] ~= state then return 0 end -- its pod has yet to end
  local at = L.int(ended(h))
  call('HSET', K.job(job), 'hl:ended', at) -- retention compares them
  call('ZADD', K.ended(q, state), at, job)
  return 1
end

local function page(state)
  local registry, index = K.registry(L.REGISTRY[state], q), K.ended(q, state)
  if L.type(registry) ~= 'zset' or L.wrong(index, 'zset') then return false, 0 end
  local ids, found = call('ZREVRANGE', registry, from, from + step - 1), 0 -- what RQ ended has the higher scores
  for _, job in ipairs(ids) do
    if not call('ZSCORE', index, job) then found = found + come_in(job, state) end
  end
  return #ids == step, found
end

local more, mended = false, 0
for _, state in ipairs({ 'completed', 'failed', 'cancelled' }) do
  local further, found = page(state)
  more, mended = more or further, mended + found
end
if mended > 0 then
  L.count(q, 'repaired:ended', mended)
  L.emit(q, 'repaired', '', 'case', 'ended', 'count', L.int(mended))
end
return { more and from + step or -1, mended }
