-- Concurrency keys (`hl:key`): how many executions of each key run, and where its jobs wait.
--   lanes  zset of one score: `<key>\0<level><rank><job>` of every job that waits by its key; in byte order the jobs of a
--          key stand together, by level and rank. A lane is one key's part of it
--   heads  zset key -> ms its first job came: every key with a lane
--   ring   zset of one score: `<place>\0<key>` of the keys that have room; the place is `f<level><rank>` of their first job
--          or, where the order is fair, `r<turn>`; the empty key stands for the lists
--   slots  hash key -> its place in the ring
--   full   zset key -> ms it was last found at its cap
--   keyed  zset of one score: `<key>\0<job>:<execution>` of what runs; keyof: hash of the same, the other way round
-- All but `lanes` follow from it, the started registry and the settings: L.regard writes them, a sweep compares them. They
-- vanish when they are empty. RQ's tools count the jobs by a list of fillers, `Q@keys`.
L.KEY_MAX = 200
local rules = {}

-- The job's key, or nil; a key that cannot be used ends the job when it is claimed.
function L.usable_key(key) return #key > 0 and #key <= L.KEY_MAX and not string.find(key, '%c') and key or nil end
function L.key(h) return h['hl:key'] and L.usable_key(h['hl:key']) end

-- What the settings say about keys: {per = executions of a key at once or nil, fair, apart = keyed jobs wait in lanes,
-- at = ms they were written}.
function L.rule(q, set)
  if not rules[q] then
    set = set or L.settings(q) or { spec = {}, at = 0 }
    local per, fair = L.number(set.spec.concurrencyPerKey), set.spec.concurrencyOrder == 'RoundRobin'
    rules[q] = { per = per, fair = fair, apart = per ~= nil or fair, at = set.at }
  end
  return rules[q]
end

-- Opened when first used.
L.FILLER = 'keyed'
local MIDDLE = 4e15 -- ranks: microseconds since the epoch above it, at the front below it, the later the sooner
local PLACE = 21 -- characters of a place in the ring
local NOW_US = clock[1] * 1000000 + clock[2]

-- A reply, or nil instead of an error: a wrong type in an index must not stop a transition.
local function ask(...)
  local got = try(...)
  if type(got) == 'table' and got.err then return nil end
  return got
end
local function count_of(zset, key) return ask('ZLEXCOUNT', zset, '[' .. key .. '\0', '(' .. key .. '\1') or 0 end
function L.running(q, key) return count_of(K.keyed(q), key) end
function L.lane_length(q, key) return count_of(K.lanes(q), key) end
function L.in_lanes(q) return ask('ZCARD', K.lanes(q)) or 0 end

function L.wrong_keys(q)
  local all = { K.lanes(q), K.heads(q), K.ring(q), K.full(q), K.keyed(q), K.slots(q), K.keyof(q) }
  if call('EXISTS', unpack(all)) == 0 then return nil end
  return L.wrong(K.lanes(q), 'zset', K.heads(q), 'zset', K.ring(q), 'zset', K.full(q), 'zset', K.keyed(q), 'zset',
    K.slots(q), 'hash', K.keyof(q), 'hash')
end

local function parse(member)
  local at = string.find(member, '\0', 1, true) or 1
  local text = string.sub(member, at + 1, at + PLACE - 1)
  if at == 1 or #member < at + PLACE or not string.match(text, '^%d+$') then return nil end
  return { member = member, key = string.sub(member, 1, at - 1), level = tonumber(string.sub(text, 1, 4)) - 1000,
    rank = tonumber(string.sub(text, 5)), job = string.sub(member, at + PLACE), place = 'f' .. text }
end
function L.lane_entry(member)
  local entry = parse(member) or {}
  return entry.key, entry.job
end
-- Sixteen digits, whatever rank a stranger's entry has that this one follows.
local function digits(rank) return string.format('%016d', min(max(rank, 0), 2 * MIDDLE)) end

-- The first job of a lane: {member, level, rank, job, place = of its key in the ring, where the order is not fair}, or nil. What is no such entry goes to the quarantine.
function L.lane_head(q, key)
  for _ = 1, 20 do
    local member = (ask('ZRANGEBYLEX', K.lanes(q), '[' .. key .. '\0', '(' .. key .. '\1', 'LIMIT', 0, 1) or {})[1]
    if not member then return nil end
    local head = parse(member)
    if head then return head end
    L.quarantine(q, member, 'not an entry of ' .. K.lanes(q) .. ': something else wrote it')
    ask('ZREM', K.lanes(q), member)
  end
  return nil
end

-- Some jobs of a lane after a member, nil = from the first on: {member, job, place} each; and whether they end at what is
-- no such entry.
function L.lane_some(q, key, after, count)
  local found, low, at = {}, after and '(' .. after or '[' .. key .. '\0', #key + 1
  for i, member in ipairs(ask('ZRANGEBYLEX', K.lanes(q), low, '(' .. key .. '\1', 'LIMIT', 0, count) or {}) do
    local text = string.sub(member, at + 1, at + PLACE - 1)
    if #member < at + PLACE or not string.match(text, '^%d+$') then return found, true end
    found[i] = { member = member, job = string.sub(member, at + PLACE), place = 'f' .. text }
  end
  return found, false
end

local levels = {} -- those of one call are mostly the same
local function in_level(level)
  levels[level] = levels[level] or string.format('%04d', level + 1000)
  return levels[level]
end
-- Since when the first job of a lane waits (ms), by its rank.
function L.head_ms(rank) return floor(math.abs(rank - MIDDLE) / 1000) end

-- Key and place of a member of the ring; what is none of ours goes: nil.
function L.ring_entry(q, member)
  local place, key = string.match(member, '^([fr]%d+)%z(.*)$')
  if place and #place == PLACE then return key, place end
  ask('ZREM', K.ring(q), member)
end

-- The first of the ring: key and place, or nil.
function L.ring_first(q)
  for _ = 1, 20 do
    local member = (ask('ZRANGE', K.ring(q), 0, 0) or {})[1]
    if not member then return nil end
    local key, place = L.ring_entry(q, member)
    if key then return key, place end
  end
  return nil
end
local function ring_leave(q, key)
  local old = ask('HGET', K.slots(q), key)
  if old then
    ask('ZREM', K.ring(q), old .. '\0' .. key)
    ask('HDEL', K.slots(q), key)
  end
end
local function ring_join(q, key, place)
  local old = ask('HGET', K.slots(q), key)
  if old and old ~= place then ask('ZREM', K.ring(q), old .. '\0' .. key) end
  ask('ZADD', K.ring(q), 0, place .. '\0' .. key)
  ask('HSET', K.slots(q), key, place)
end
-- The last turn given, 0 when there is none; what looks like a turn and is none of ours goes.
local function last_turn(q)
  for _ = 1, 20 do
    local member = (ask('ZREVRANGE', K.ring(q), 0, 0) or {})[1]
    if not member or string.sub(member, 1, 1) == 'f' then return 0 end
    local turn = tonumber(string.match(member, '^r(%d+)%z') or '')
    if turn and turn < 1e15 then return turn end
    ask('ZREM', K.ring(q), member)
  end
  return 0
end
-- Give a key its turn after all others, if it has none or had it just now.
local function take_turn(q, key, served)
  local old = ask('HGET', K.slots(q), key)
  if old and #old == PLACE and string.match(old, '^r%d+$') and not served then return ring_join(q, key, old) end
  ring_join(q, key, 'r' .. string.format('%020.0f', last_turn(q) + 1))
end
L.take_turn, L.ring_leave = take_turn, ring_leave

-- Bring a key's place in the indexes up to date, after anything of it changed; `served` = it had its turn, and so many of
-- it run now.
function L.regard(q, key, served)
  local head, rule = L.lane_head(q, key), L.rule(q)
  if not head then
    for _, zset in ipairs({ K.heads(q), K.full(q) }) do ask('ZREM', zset, key) end
    return ring_leave(q, key)
  end
  ask('ZADD', K.heads(q), L.int(L.head_ms(head.rank)), key)
  if rule.per and (served or L.running(q, key)) >= rule.per then
    ring_leave(q, key)
    return ask('ZADD', K.full(q), L.int(NOW), key)
  end
  -- Without a cap too: it may have been removed while keys were at it.
  if not served and ask('ZREM', K.full(q), key) == 1 then try('PUBLISH', K.doorbell, q) end
  if rule.fair then return take_turn(q, key, served) end
  ring_join(q, key, head.place)
end

-- Drop a place that is not the key's.
function L.ring_check(q, key, place)
  if ask('HGET', K.slots(q), key) ~= place then ask('ZREM', K.ring(q), place .. '\0' .. key) end
end

-- Whether a key stands where it should: with a lane among the heads and in one of ring and full, else nowhere.
function L.well_placed(q, key)
  local slot, full = ask('HGET', K.slots(q), key), ask('ZSCORE', K.full(q), key)
  local ring = slot and ask('ZSCORE', K.ring(q), slot .. '\0' .. key)
  local headed = ask('ZSCORE', K.heads(q), key)
  if not L.lane_head(q, key) then return not (slot or full or headed) end
  return headed and (not ring) == (not slot) and (not slot) ~= (not full)
end

-- The level and rank a place in the ring stands for; nil for a turn.
function L.place_of(place)
  local level, rank = string.match(place, '^f(%d%d%d%d)(%d+)$')
  return level and tonumber(level) - 1000, rank and tonumber(rank)
end

-- Places of the other order, left when the settings changed: some of them now, from the end where they stand.
function L.reorder(q)
  local kind = L.rule(q).fair and 'f' or 'r'
  for _, member in ipairs(ask(kind == 'f' and 'ZRANGE' or 'ZREVRANGE', K.ring(q), 0, 19) or {}) do
    if string.sub(member, 1, 1) ~= kind then return end
    local key = string.sub(member, PLACE + 2)
    ring_leave(q, key)
    if key ~= '' then L.regard(q, key) end
  end
end

-- Since when (microseconds) a job waits, as its rank in a lane; one that goes to the front ranks before all others.
function L.rank(h)
  local since = NOW_US
  if h.enqueued_at then
    local micros = string.match(h.enqueued_at, '%.%d%d%d(%d%d%d)Z$')
    local ms = L.parse_utc(h.enqueued_at)
    if ms then since = ms * 1000 + tonumber(micros or '0') end
  end
  since = min(since, NOW_US)
  return h['hl:lifo'] == '1' and MIDDLE - since or MIDDLE + since
end

-- The highest rank given at the back of any lane, where it is known: what ranks above it needs no look into its lane.
local function highest(q)
  local text = ask('GET', K.back(q))
  local rank = text and #text <= 16 and string.match(text, '^%d+$') and tonumber(text)
  return rank or (L.in_lanes(q) == 0 and 0) or nil
end

-- The rank at the front or the back of a level, or where a job stood in time (`one.since`); `given` = of this batch.
local function rank_in(lanes, stem, one, given)
  local n, low, high = one.turn, '[' .. stem, '(' .. stem .. ':'
  local function rank_of(found)
    local rank = found[1] and #found[1] > #stem + 16 and string.sub(found[1], #stem + 1, #stem + 16)
    return rank and string.match(rank, '^%d+$') and tonumber(rank)
  end
  if one.since then -- those of one batch have one time: they follow each other
    local rank = L.rank(one.since)
    high = '(' .. stem .. digits(rank + 1000)
    local last = rank_of(call('ZREVRANGEBYLEX', lanes, high, '[' .. stem .. digits(rank), 'LIMIT', '0', '1'))
    return last and last + 1 or rank
  end
  local side = (one.lifo and 'front' or 'back') .. stem
  if one.lifo then
    local first = given[side] or rank_of(call('ZRANGEBYLEX', lanes, low, high, 'LIMIT', '0', '1'))
    given[side] = max(min(MIDDLE - NOW_US - n, first and first - 1 or math.huge), 0)
  else
    local last = given[side] or rank_of(call('ZREVRANGEBYLEX', lanes, high, low, 'LIMIT', '0', '1'))
    given[side] = max(MIDDLE + NOW_US + n, last and last + 1 or 0)
  end
  return given[side]
end

-- Those of these keys that a job at `places` changes nothing for: it stands behind their first, which has its place. None
-- where ring and slots are not as many: one of them was lost.
local function settled(q, keys, places)
  local out, find = {}, string.find
  if L.rule(q).fair or ask('ZCARD', K.ring(q)) ~= ask('HLEN', K.slots(q)) then return out end
  for i, slot in ipairs(ask('HMGET', K.slots(q), unpack(keys)) or {}) do
    local place = places[keys[i]]
    out[keys[i]] = slot and #slot == PLACE and slot <= 'f' .. place and find(slot, '^f%d+$') and true or nil
  end
  return out
end

local puts, known = -1, {} -- those of one batch stand in their order, over all keys
function L.next_put()
  puts = puts + 1
  return puts
end
-- Put waiting jobs into their keys' lanes, {id, key, priority, lifo, since, turn = which put of this call} each: at the
-- front (`lifo`) or back of its level, or where it stood in time (`since` = its hash, as of L.rank).
function L.lanes_put(q, jobs)
  local lanes, members, fillers, given, keys, places = K.lanes(q), {}, {}, {}, {}, {}
  local top, now = highest(q), MIDDLE + NOW_US
  local raised = top
  for i = 1, #jobs do
    local one = jobs[i]
    local key, level, rank = one.key, in_level(one.priority), now + one.turn
    if not raised or rank <= raised or one.lifo or one.since then
      rank = rank_in(lanes, key .. '\0' .. level, one, given)
    end
    raised = raised and max(raised, rank)
    local at = level .. digits(rank)
    local lowest = places[key]
    members[2 * i - 1], members[2 * i], fillers[i] = '0', key .. '\0' .. at .. one.id, L.FILLER
    if not lowest then keys[#keys + 1] = key end
    if not lowest or at < lowest then places[key] = at end
  end
  if raised and raised ~= top then call('SETEX', K.back(q), '86400', digits(raised)) end
  call('ZADD', lanes, unpack(members))
  try('RPUSH', K.lane_list(q), unpack(fillers))
  if not known[q] then try('SADD', K.queues, K.lane_list(q)) end
  known[q] = true
  local same = settled(q, keys, places)
  for i = 1, #keys do
    if not same[keys[i]] then L.regard(q, keys[i]) end
  end
end
function L.lane_put(q, job, h, where)
  L.lanes_put(q, { { id = job, key = L.key(h), priority = L.priority(h), turn = L.next_put(), lifo = where == 'front',
    since = where == 'since' and h } })
end

-- A job's entry in its lane, if it stands among the first of its level or close to its time, or nil.
local function lane_find(q, job, h)
  local key = L.key(h)
  if not key or L.in_lanes(q) == 0 then return nil end
  local stem = key .. '\0' .. in_level(L.priority(h))
  local function seek(low, most)
    for _, member in ipairs(ask('ZRANGEBYLEX', K.lanes(q), low, '(' .. stem .. ':', 'LIMIT', 0, most) or {}) do
      if #member == #stem + 16 + #job and string.sub(member, -#job) == job then return member end
    end
    return nil
  end
  local rank = L.rank(h) -- those of one batch share a time, and go after it one by one; before it, if they go to the front
  return seek('[' .. stem, 100) or seek('[' .. stem .. digits(rank < MIDDLE and rank - 1000 or rank), 1001)
end

-- Take a job out of its lane, where it can be found; else claim drops it.
function L.lane_leave(q, job, h)
  local member = lane_find(q, job, h)
  if not member then return end
  ask('ZREM', K.lanes(q), member)
  L.regard(q, L.key(h))
  L.mirror(q)
end

-- How many jobs of its key stand before a job in its lane, or nil.
function L.lane_position(q, job, h)
  local member = lane_find(q, job, h)
  return member and ask('ZLEXCOUNT', K.lanes(q), '[' .. L.key(h) .. '\0', '(' .. member)
end

-- Make RQ's list of fillers as long as the lanes are, in bounded steps.
function L.mirror(q)
  local list, fillers = K.lane_list(q), {}
  local wanted, have = L.in_lanes(q), ask('LLEN', K.lane_list(q))
  if not have or wanted == have then return end
  for i = 1, min(wanted - have, 1000) do fillers[i] = L.FILLER end
  if wanted < have then
    ask('LTRIM', list, min(have - wanted, 10000), -1)
  else
    ask('RPUSH', list, unpack(fillers))
    try('SADD', K.queues, list)
  end
end

-- What runs under a key counts while it is in the started registry: a bounded look; returns how many entries went.
function L.verify_key(q, key, most)
  local gone = 0
  for _, entry in ipairs(ask('ZRANGEBYLEX', K.keyed(q), '[' .. key .. '\0', '(' .. key .. '\1', 'LIMIT', 0, most) or {}) do
    local member = string.sub(entry, #key + 2)
    if not ask('ZSCORE', K.started(q), member) then
      gone = gone + ask('ZREM', K.keyed(q), entry)
      ask('HDEL', K.keyof(q), member)
    end
  end
  if gone > 0 then L.count(q, 'repaired:keys', gone) end
  return gone
end

-- Keys at their cap are looked at again: after a change of settings, and now and then; returns how many.
function L.recheck(q)
  local full, rule, seen = K.full(q), L.rule(q), 0
  local function each(before, most)
    for _, key in ipairs(ask('ZRANGEBYSCORE', full, '-inf', L.int(before), 'LIMIT', 0, most) or {}) do
      seen = seen + 1
      L.verify_key(q, key, 20)
      L.regard(q, key)
    end
  end
  each(rule.at, 20)
  each(NOW - 5000, 2)
  return seen
end

-- An execution of a key begins or ends.
function L.key_starts(q, key, member)
  call('ZADD', K.keyed(q), 0, key .. '\0' .. member)
  call('HSET', K.keyof(q), member, key)
end
function L.key_ends(q, member)
  local key = ask('HGET', K.keyof(q), member)
  if not key then return end
  ask('ZREM', K.keyed(q), key .. '\0' .. member)
  ask('HDEL', K.keyof(q), member)
  L.regard(q, key)
end

-- Jobs in lanes that may start now: exact over the first 32 keys with room, their caps for the others.
function L.lanes_room(q)
  local rule, total, room = L.rule(q), L.in_lanes(q), 0
  if total == 0 or not rule.per then return total end
  local keys = ask('ZRANGE', K.ring(q), 0, 31) or {}
  for _, entry in ipairs(keys) do
    local key = string.sub(entry, PLACE + 2)
    if key ~= '' then room = room + max(min(L.lane_length(q, key), rule.per - L.running(q, key)), 0) end
  end
  local others = (ask('ZCARD', K.ring(q)) or 0) - #keys
  return min(room + others * rule.per, total)
end

-- Ids of jobs in lanes, key by key.
function L.lane_page(q, from, count)
  local ids = {}
  for _, member in ipairs(ask('ZRANGE', K.lanes(q), from, from + count - 1) or {}) do
    ids[#ids + 1] = (parse(member) or { job = member }).job
  end
  return ids
end
