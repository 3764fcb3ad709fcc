-- In which order a claim takes the waiting jobs of one queue.
-- With: _taking.lua
-- A claim c has: full() -> why nothing more may start, or nil; judge(job, level, key of the lane or nil) -> 'claimed' |
-- 'gone' | 'stop'; skip() -> 'gone', for a look at what is not to be taken.

-- Levels in use, sooner first, 32 or `most`; the base list is level 0.
function L.levels(q, most)
  local out, base = {}, false
  local known = L.type(K.levels(q)) == 'zset' and call('ZRANGE', K.levels(q), 0, (most or 32) - 1) or {}
  for _, text in ipairs(known) do
    local p = L.num(text, nil)
    if p and p ~= 0 and p >= -1000 and p <= 1000 then
      if p > 0 and not base then
        out[#out + 1] = 0
        base = true
      end
      out[#out + 1] = p
    end
  end
  if not base then out[#out + 1] = 0 end
  return out
end

-- What bounds the starts of one queue now, each {why, left, wait = ms until that changes by itself, or nil}; `plain` =
-- nothing holds it back and no breaker stands.
function L.bounds(q, set, plain)
  local out, held, breaker = {}, plain and 0 or call('PTTL', K.hold(q)), not plain and L.breaker(q)
  local function bound(why, left, wait) out[#out + 1] = { why = why, left = left, wait = wait } end
  local most, rate, wait = L.number(set.spec.concurrencyMax), L.rate(q, set)
  if breaker and breaker.probing then
    bound('breaker', 0, nil)
  elseif breaker then
    bound('breaker', breaker.wait > 0 and 0 or 1, breaker.wait)
  end
  if most then bound('cap', most - call('ZCARD', K.started(q)), nil) end
  if rate then bound('rate', rate, wait) end
  if held > 0 then bound('rate', 0, held) end
  return out, breaker
end

-- The first id of the lists: level and id, or nil; levels found empty are forgotten.
local function first(q, order)
  while order[1] do
    local job = call('LINDEX', K.level(q, order[1]), 0)
    if job then return order[1], job end
    if order[1] ~= 0 then call('ZREM', K.levels(q), L.int(order[1])) end
    table.remove(order, 1)
  end
  return nil
end

local function take_listed(q, p, job, c)
  local verdict = c.judge(job, p)
  -- Last: whatever happened to the job is written, and another one may stand before it by now.
  if verdict ~= 'stop' then L.take_off(K.level(q, p), job) end
  return verdict
end

-- The first job of a lane, if its key has room and (where order counts) it is of the level its place in the ring says.
local function take_keyed(q, key, place, level, c)
  local head, rule = L.lane_head(q, key), L.rule(q)
  local running = rule.per and L.running(q, key) or 0
  local fit = head and (not level or head.level == level) and running < (rule.per or math.huge)
  local verdict = fit and c.judge(head.job, head.level, key) or c.skip()
  if verdict == 'stop' then return verdict end
  L.settle_lanes()
  if fit then call('ZREM', K.lanes(q), head.member) end
  L.regard(q, key, verdict == 'claimed' and running + 1)
  if verdict ~= 'claimed' then L.ring_check(q, key, place) end
  return verdict
end

-- The same of the key that stands first in the ring, where the order is not fair.
local function take_first(q, key, place, c)
  local lane = L.lane_of(q, key)
  local head = lane.entries[1]
  local same = head and string.sub(head.place, 1, 5) == string.sub(place, 1, 5)
  if not same or lane.running >= (L.rule(q).per or math.huge) then
    L.settle_lanes()
    return take_keyed(q, key, place, L.place_of(place), c)
  end
  local running, verdict = lane.running, c.judge(head.job, tonumber(string.sub(place, 2, 5)) - 1000, key)
  if verdict == 'claimed' then
    L.lane_taken(q, key, place, head, running)
  elseif verdict ~= 'stop' then
    L.settle_lanes()
    call('ZREM', K.lanes(q), head.member)
    L.regard(q, key)
    L.ring_check(q, key, place)
  end
  return verdict
end

-- First in, first out over lists and lanes: by level, then by time. The key of the lane to serve now, and its place.
local listed = {}
local function due_lane(q, p, job)
  local key, place = L.next_key(q)
  if not key or not p then return key, place end
  local level, rank = L.place_of(place)
  if not level or level < p then return key, place end
  if level > p then return nil end
  if listed.job ~= job then
    local h = L.load(job, { 'enqueued_at', 'hl:lifo' })
    listed = { job = job, rank = h and L.rank(h) }
  end
  if listed.rank and listed.rank < rank then return nil end
  return key, place
end

local function in_order(q, c, plain)
  local order, keyed = plain and { 0 } or L.levels(q), not plain and (L.rule(q).apart or L.in_lanes(q) > 0)
  while true do
    local why = c.full()
    if why then return why end
    local p, job = first(q, order)
    local key, place
    if keyed then key, place = due_lane(q, p, job) end
    local verdict
    if key then
      verdict = take_first(q, key, place, c)
    elseif p then
      verdict = take_listed(q, p, job, c)
    else
      return nil
    end
    if verdict == 'stop' then return 'enough' end
  end
end

-- Round robin: each key with room has a turn, and all jobs without a key together one.
local function in_turn(q, c)
  local order = L.levels(q)
  if first(q, order) then L.take_turn(q, '') end
  while true do
    local why = c.full()
    if why then return why end
    local key, place = L.ring_first(q)
    if not key then return nil end
    local verdict
    if key ~= '' then
      verdict = take_keyed(q, key, place, nil, c)
    else
      local p, job = first(q, order)
      verdict = p and take_listed(q, p, job, c)
      if not p then
        c.skip()
        L.ring_leave(q, '')
        L.ring_check(q, '', place)
      elseif verdict == 'claimed' then
        L.take_turn(q, '', true)
      end
    end
    if verdict == 'stop' then return 'enough' end
  end
end

-- Take what may start now; returns why it ended: 'enough', what c.full said, 'keys' (only keys at their cap have jobs
-- left) or 'empty'. `plain` = all its jobs stand in its list, and stay there.
function L.serve(q, c, plain)
  if plain then return in_order(q, c, true) or 'empty' end
  L.reorder(q)
  local why = (L.rule(q).fair and in_turn or in_order)(q, c)
  L.settle_lanes()
  L.mirror(q)
  return why or (L.in_lanes(q) > 0 and 'keys') or 'empty'
end
