-- How many ended jobs of a queue stay, how long, and how one goes.

-- What settings say about ended jobs of a state: {count, age in ms}.
local function kept(spec, state)
  local name = state == 'completed' and 'completed' or 'failed'
  local own = L.table(L.table(spec.retention)[name])
  return {
    count = L.number(own.count) or L.KEEP[name].count, age = max(L.number(own.age) or L.KEEP[name].age, 60000),
  }
end
-- The same as text beside the settings of one generation, so that an end need not parse them.
function L.kept(spec, generation)
  local parts = { generation }
  for _, state in ipairs({ 'completed', 'failed' }) do
    local keep = kept(spec, state)
    parts[#parts + 1] = string.format('%.14g', keep.count)
    parts[#parts + 1] = string.format('%.14g', keep.age)
  end
  return table.concat(parts, ' ')
end
function L.keep(q, state)
  local found = try('HMGET', K.settings(q), 'kept', 'generation')
  local text, generation = found[1], found[2]
  if text and generation and string.sub(text, 1, #generation + 1) == generation .. ' ' then
    local parts = {}
    for part in string.gmatch(string.sub(text, #generation + 2), '%S+') do parts[#parts + 1] = L.number(tonumber(part)) end
    local i = state == 'completed' and 1 or 3
    if #parts == 4 then return { count = parts[i], age = max(parts[i + 1], 60000) } end
  end
  return kept((L.settings(q) or { spec = {} }).spec, state)
end

-- Remove one ended job and all that belongs to it; one whose id lives on keeps those who depend on it, and the place in its
-- deduplication key if that `stays` the same ('' = it has none now). The job's fields `h`, if it is known to have been let
-- go of by every other state.
function L.remove(q, job, state, stays, h)
  local key = h and h['hl:dedup']
  if not h then
    key = try('HGET', K.job(job), 'hl:dedup')
    L.rq_unpark(job)
  end
  local gone = { K.job(job), K.results(job), K.dependencies(job), K.executions(job) }
  if not stays and not L.frees(job, state) then gone[5] = K.dependents(job) end
  try('DEL', unpack(gone))
  if type(key) == 'string' and key ~= stays then L.dedup_end(q, key, job, nil) end
  for each, name in pairs(L.REGISTRY) do
    if each == state or not h then try('ZREM', K.registry(name, q), job) end
  end
  try('ZREM', K.ended(q, state), job)
end

-- One of the oldest ended jobs: 'removed', or 'open' while its finishing PATCH is not confirmed (but not for ever: its
-- operator may be gone).
local function trim_one(q, job, state, at, keep)
  local h, why, message = L.load(job, { 'status', 'hl:ended', 'hl:install', 'hl:ns', 'hl:job', 'hl:dedup' })
  if h and L.num(h['hl:ended'], -1) == at and L.STATES[h.status or ''] == state then
    local name = (h['hl:ns'] or '') .. '/' .. (h['hl:job'] or '')
    local open = try('ZSCORE', K.unfinalized(h['hl:install'] or ''), name)
    if type(open) == 'string' and at >= NOW - keep.age - 3600000 then return 'open' end
    L.remove(q, job, state, nil, h)
    L.emit(q, 'removed', job, 'reason', 'retention', 'prev', state)
    L.count(q, 'trimmed')
    return 'removed'
  end
  call('ZREM', K.ended(q, state), job) -- gone, or living again
  if why == 'corrupt' then
    L.quarantine(q, job, message)
  elseif why == 'missing' then -- its own time to live ended, or RQ deleted it
    try('ZREM', K.registry(L.REGISTRY[state], q), job)
    L.emit(q, 'removed', job, 'reason', 'gone', 'prev', state)
    L.count(q, 'trimmed')
  end
  return 'removed'
end

-- Retention by count and age: looks at the `step` oldest ended jobs of one state; returns how many entries it removed.
-- Mostly one is too many, or none: it reads few entries, then twice as many.
function L.trim(q, state, step, keep)
  local index, removed, open, more = K.ended(q, state), 0, 0, true
  local size = try('ZCARD', index)
  if type(size) ~= 'number' or size == 0 then return 0 end
  keep = keep or L.keep(q, state)
  local excess = max(size - keep.count, 0)
  while more do
    local wanted = min(max(excess - removed + 1, removed + open), step - removed - open)
    local oldest = wanted > 0 and call('ZRANGE', index, open, open + wanted - 1, 'WITHSCORES') or {}
    more = #oldest > 0
    for i = 1, #oldest, 2 do
      local at = tonumber(oldest[i + 1])
      if removed >= excess and at > NOW - keep.age then return removed end
      if trim_one(q, oldest[i], state, at, keep) == 'open' then open = open + 1 else removed = removed + 1 end
    end
  end
  return removed
end
