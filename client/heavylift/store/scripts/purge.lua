-- Remove jobs of one state, one bounded step, oldest or next ones first; whoever waits for one learns it is gone.
-- ARGV: prefix, prefix, queue, state (any but active), step, skip (entries at the front that must stay).
-- Returns: {jobs removed, entries that must stay (their Kubernetes Job is not let go yet), '1' = more may follow | '0'}.
-- A job that was queued again behind our back while it ran is active: it stays, and is stepped over.
local q, state, step, skip = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local removed, kept, held, more = 0, 0, 0, '0'
local HELD_MAX = 1000
local ended = state == 'completed' or state == 'failed' or state == 'cancelled'

local function purge(job, h)
  L.remove(q, job, ended and state or 'failed')
  try('ZREM', K.delayed(q), job)
  for _, name in ipairs({ 'scheduled', 'deferred' }) do try('ZREM', K.registry(name, q), job) end
  L.emit(q, 'removed', job, 'reason', 'purged', 'prev', state, 'final', ended and '0' or '1')
  if not ended then call('PUBLISH', K.done(job), 'removed') end
  removed = removed + 1
end

-- Whether the id is a job of this queue and state; one that is not only loses its place.
local function ours(job)
  local h, why = L.load(job, { 'status', 'origin', 'hl:install', 'hl:ns', 'hl:job', 'hl:exec' })
  if not h or (h.origin and h.origin ~= q) or L.STATES[h.status or ''] ~= state then
    L.drop(q, job, h and 'its status is ' .. (h.status or 'none') or 'its job is ' .. why)
    return nil
  end
  return h
end

local function from_list(list)
  local at = 0
  while L.type(list) == 'list' and kept + removed < step and held < HELD_MAX do
    local job = call('LINDEX', list, at)
    if not job then return end
    local h = ours(job)
    if h and h['hl:exec'] then
      at, held = at + 1, held + 1
    else
      if h then purge(job, h) else kept = kept + 1 end
      L.take_off(list, job)
    end
  end
end

local function from_lanes()
  if L.type(K.lanes(q)) ~= 'zset' then return end
  for _, member in ipairs(call('ZRANGE', K.lanes(q), 0, step + HELD_MAX)) do
    if kept + removed >= step then break end
    local key, job = string.match(member, '^(.*)%z' .. string.rep('%d', 20) .. '(.+)$')
    local h = job and ours(job)
    if h and h['hl:exec'] then
      held = held + 1
    else
      if h then purge(job, h) else kept = kept + 1 end
      call('ZREM', K.lanes(q), member)
      if key then L.regard(q, key) end
    end
  end
  L.mirror(q)
end

local function from_zset(zset)
  if L.type(zset) ~= 'zset' then return end
  for _, job in ipairs(call('ZRANGE', zset, skip, skip + step - 1)) do
    local h = ours(job)
    local name = h and (h['hl:ns'] or '') .. '/' .. (h['hl:job'] or '')
    local open = h and ended and type(try('ZSCORE', K.unfinalized(h['hl:install'] or ''), name)) == 'string'
    if h and (open or h['hl:exec']) then
      kept = kept + 1
    else
      if h then purge(job, h) end
      call('ZREM', zset, job)
    end
  end
  if call('ZCARD', zset) > skip + kept then more = '1' end
end

local function from_lists()
  local lists = { K.queue(q) }
  for _, text in ipairs(L.type(K.levels(q)) == 'zset' and call('ZRANGE', K.levels(q), 0, L.LEVELS_MAX) or {}) do
    if L.num(text, 0) ~= 0 then lists[#lists + 1] = K.level(q, L.num(text, 0)) end
  end
  for _, list in ipairs(lists) do
    if removed + kept >= step then return end
    from_list(list)
  end
end

if state == 'waiting' then
  from_lists()
  if removed + kept < step then from_lanes() end
  if removed + kept >= step then more = '1' end
  kept = 0
elseif ended then
  from_zset(K.ended(q, state))
else
  from_zset(K.registry(state == 'delayed' and 'scheduled' or 'deferred', q))
end
if removed > 0 then
  L.count(q, 'purged', removed)
  L.emit(q, 'purged', '', 'state', state, 'count', L.int(removed))
end
return { removed, kept, more }
