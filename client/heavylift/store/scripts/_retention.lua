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

-- The keys of a job that go with it, into a list; those who depend on it stay known where it `stays`, or while they wait
-- for claims to let them go.
local function belongings(list, job, stays)
  local n = #list
  list[n + 1], list[n + 2], list[n + 3], list[n + 4] = K.job(job), K.results(job), K.dependencies(job), K.executions(job)
  if not stays then list[n + 5] = K.dependents(job) end
end

-- Remove one ended job and all that belongs to it; one whose id lives on keeps those who depend on it, and the place in its
-- deduplication key if that `stays` the same ('' = it has none now).
function L.remove(q, job, state, stays)
  L.rq_unpark(job)
  local key, gone = try('HGET', K.job(job), 'hl:dedup'), {}
  belongings(gone, job, stays or L.frees(job, state))
  try('DEL', unpack(gone))
  if type(key) == 'string' and key ~= stays then L.dedup_end(q, key, job, nil) end
  for _, name in pairs(L.REGISTRY) do try('ZREM', K.registry(name, q), job) end
  try('ZREM', K.ended(q, state), job)
end

-- Since when the longest of an install's Jobs waits for its finishing PATCH (ms), or nil: most ended jobs are older.
local waits = {}
local function waits_since(install)
  if waits[install] == nil then
    local first = try('ZRANGE', K.unfinalized(install), 0, 0, 'WITHSCORES')
    waits[install] = tonumber(first[2] or nil) or false
  end
  return waits[install]
end

-- Whether a job's finishing PATCH is not confirmed (but not for ever: its operator may be gone).
local function open(job, h, at, keep)
  local install = h['hl:install'] or ''
  local since = waits_since(install)
  if not since or since > at or at < NOW - keep.age - 3600000 then return false end
  local found = call('HMGET', K.job(job), 'hl:ns', 'hl:job')
  return type(try('ZSCORE', K.unfinalized(install), (found[1] or '') .. '/' .. (found[2] or ''))) == 'string'
end

-- What an entry of the index stands for: 'open', 'removed' (with its fields) or, of what is gone or lives again, why.
local TRIMMED = { 'status', 'hl:ended', 'hl:install', 'hl:dedup' }
local function judge(q, job, state, at, keep)
  local h, why, message = L.load(job, TRIMMED, { status = nil, ['hl:ended'] = nil, ['hl:install'] = nil, ['hl:dedup'] = nil })
  if h and L.num(h['hl:ended'], -1) == at and L.STATES[h.status or ''] == state then
    return open(job, h, at, keep) and 'open' or 'removed', h
  end
  if why == 'corrupt' then L.quarantine(q, job, message) end
  return why or 'lives'
end

-- Take some of the oldest off: {job, ms it ended, ...}; returns how many went.
local function trim_some(q, state, oldest, keep)
  local keys, entries, off, reasons, held = {}, {}, {}, {}, {}
  local freeing = state == 'completed' and L.type(K.todo) == 'set'
  for i = 1, #oldest, 2 do
    local job = oldest[i]
    local what, h = judge(q, job, state, tonumber(oldest[i + 1]), keep)
    if what ~= 'open' then entries[#entries + 1] = job end
    if what == 'removed' then belongings(keys, job, freeing and L.frees(job, state)) end
    if what == 'removed' or what == 'missing' then -- its own time to live ended, or RQ deleted it
      off[#off + 1] = job
      reasons[#off] = what == 'removed' and 'retention' or 'gone'
    end
    if what == 'removed' and h['hl:dedup'] then held[#held + 1] = { h['hl:dedup'], job } end
  end
  if #entries == 0 then return 0 end
  call('ZREM', K.ended(q, state), unpack(entries))
  if #keys > 0 then try('DEL', unpack(keys)) end
  if #off > 0 then
    try('ZREM', K.registry(L.REGISTRY[state], q), unpack(off))
    L.count(q, 'trimmed', #off)
  end
  if #held > 0 then L.dedup_ends(q, held) end
  for i, job in ipairs(off) do
    L.emit(q, 'removed', job, 'reason', reasons[i], 'prev', state)
  end
  return #entries
end

-- How many entries of {job, ms it ended, ...} are too many, or too old; the oldest come first.
local function due(oldest, too_many, keep)
  local n = min(too_many * 2, #oldest)
  while n < #oldest and tonumber(oldest[n + 2]) <= NOW - keep.age do n = n + 2 end
  return n
end

-- Retention by count and age: looks at the `step` oldest ended jobs of one state; returns how many entries it removed.
-- Mostly one is too many, or none: it reads few entries, then twice as many.
function L.trim(q, state, step, keep)
  local index, removed, passed = K.ended(q, state), 0, 0
  local size = try('ZCARD', index)
  if type(size) ~= 'number' or size == 0 then return 0 end
  keep = keep or L.keep(q, state)
  local excess = max(size - keep.count, 0)
  while true do
    local wanted = min(max(excess - removed + 1, removed + passed), step - removed - passed)
    local oldest = wanted > 0 and call('ZRANGE', index, passed, passed + wanted - 1, 'WITHSCORES') or {}
    local many = due(oldest, max(excess - removed, 0), keep)
    local went = many > 0 and trim_some(q, state, { unpack(oldest, 1, many) }, keep) or 0
    removed, passed = removed + went, passed + many / 2 - went
    if many == 0 or (many < #oldest and removed >= excess) then return removed end
  end
end
