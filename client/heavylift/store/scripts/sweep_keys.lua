-- One bounded step of a sweep over a queue's concurrency keys: what counts is compared with the started registry, what
-- waits with the jobs themselves, the indexes with what waits.
-- ARGV: prefix, prefix, queue, step, then where to go on in each: running entries, executions, waiting entries, keys
--   ('' and 0 begin, '\255' and -1 = that one is done).
-- Returns: {the four places to go on from (all at the beginning = done), how many were mended}.
local q, step, mended = ARGV[3], tonumber(ARGV[4]), 0
local wrong = L.wrong_keys(q) or L.wrong(K.started(q), 'zset')
if wrong then return { '', 0, '', 0, 0 } end -- claim says so, and stops the queue
local function page(zset, after)
  if after == '\255' then return {}, after end
  local found = call('ZRANGEBYLEX', zset, after == '' and '-' or '(' .. after, '+', 'LIMIT', 0, step)
  return found, #found == step and found[#found] or '\255'
end
local function ranks(zset, from)
  if from < 0 then return {}, from end
  local found = call('ZRANGE', zset, from, from + step - 1)
  return found, #found == step and from + step or -1
end
local seen, changed = {}, {} -- keys: changed ones follow their jobs, which is no other fault

local entries, running = page(K.keyed(q), ARGV[5])
for _, entry in ipairs(entries) do
  local key, member = string.match(entry, '^([^%z]*)%z(.*)$')
  if not key or not call('ZSCORE', K.started(q), member) then
    call('ZREM', K.keyed(q), entry)
    if key then call('HDEL', K.keyof(q), member) end
    mended, changed[key or ''] = mended + 1, true
  end
end
local members, executions = ranks(K.started(q), tonumber(ARGV[6]))
local installs, strays = L.members(K.installs), 0
-- Not the current execution of a job, and on no install's list of what to see through: it would hold a cap for ever. One of
-- RQ's own has an end, after which RQ gives it up.
local function stray(member, current, why)
  local score = tonumber(call('ZSCORE', K.started(q), member))
  if current or why == 'corrupt' or not (score == math.huge or score < NOW_S - 3600) then return false end
  for _, install in ipairs(installs) do
    if type(try('ZSCORE', K.inflight(install), member)) == 'string' then return false end
  end
  return true
end
for _, member in ipairs(members) do
  local job, execution = string.match(member, '^([^:]+):(.+)$')
  local h, why = L.load(job or '', { 'hl:key', 'hl:exec' })
  local current = job and h and h['hl:exec'] == execution
  if stray(member, current, why) then
    call('ZREM', K.started(q), member)
    strays = strays + 1
  end
  local key = current and L.key(h)
  if key and not call('ZSCORE', K.keyed(q), key .. '\0' .. member) then
    L.key_starts(q, key, member)
    mended, changed[key] = mended + 1, true
  end
end
local waits, waiting = page(K.lanes(q), ARGV[7])
for _, entry in ipairs(waits) do
  local key, job = L.lane_entry(entry)
  local h = job and L.load(job, { 'status', 'origin', 'hl:key' })
  if not (h and h.status == 'queued' and (h.origin or q) == q and L.key(h) == key) then
    call('ZREM', K.lanes(q), entry)
    L.drop(q, job or entry, 'it waited by its key, and ' .. (h and 'has moved on' or 'its job is gone'))
    mended, changed[key or ''] = mended + 1, true
  end
  seen[key or ''] = true
end
local keys, known = ranks(K.heads(q), tonumber(ARGV[8]))
for _, key in ipairs(keys) do seen[key] = true end
local function in_order(set)
  local list = {}
  for key in pairs(set) do list[#list + 1] = key end
  table.sort(list)
  return list
end
for _, key in ipairs(in_order(changed)) do L.regard(q, key) end
for _, key in ipairs(in_order(seen)) do
  if key ~= '' and not L.well_placed(q, key) then mended = mended + 1 end
  if key ~= '' then L.regard(q, key) end
end
L.mirror(q)
if strays > 0 then
  L.count(q, 'repaired:started', strays)
  L.emit(q, 'repaired', '', 'case', 'started', 'count', L.int(strays))
end
if mended > 0 then
  L.count(q, 'repaired:keys', mended)
  L.emit(q, 'repaired', '', 'case', 'keys', 'count', L.int(mended))
end
if running == '\255' and executions == -1 and waiting == '\255' and known == -1 then return { '', 0, '', 0, mended } end
return { running, executions, waiting, known, mended }
