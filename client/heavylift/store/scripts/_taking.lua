-- What a claim takes out of lanes, in order: written together. Until L.settle_lanes the lanes and their indexes in Redis
-- are as they were before, so whoever changes them otherwise settles first.
-- With: _keys.lua
-- Opened when first used.
local PLACES, ENTRIES = 21, 2 -- of the ring, and of a lane, that are read at once
local MOST = 1000 -- more than a call starts
local queue, view, more -- whose they are; {member, key, place} of the ring's beginning, and whether there may be others
local few -- executions of all keys
local lanes, order = {}, {} -- by key {entries, last = the one taken last, odd, running, taken}; the keys taken from
local gone, places, started, keyed = {}, {}, {}, {}

local function write(command, key, words)
  if #words > 0 then redis.pcall(command, key, unpack(words)) end
end

-- The lines of its indexes that a key has from now on, and those it has no more.
local function regard(q, key, out)
  local lane, per = lanes[key], L.rule(q).per
  local head = lane.entries[1]
  if head then
    out.heads[#out.heads + 1], out.heads[#out.heads + 2] = L.int(L.head_ms(tonumber(string.sub(head.place, 6)))), key
  else
    out.over[#out.over + 1] = key
  end
  if not head or (per and lane.running >= per) then
    out.left[#out.left + 1] = key
    if head then out.full[#out.full + 1], out.full[#out.full + 2] = NOW_MS, key end
  else
    out.ring[#out.ring + 1], out.ring[#out.ring + 2] = 0, head.place .. '\0' .. key
    out.slots[#out.slots + 1], out.slots[#out.slots + 2] = key, head.place
  end
end

function L.settle_lanes()
  local q, out = queue, { heads = {}, over = {}, left = {}, full = {}, ring = {}, slots = {} }
  write('ZADD', q and K.keyed(q), keyed)
  write('HSET', q and K.keyof(q), started)
  write('ZREM', q and K.lanes(q), gone)
  local odd = {}
  for _, key in ipairs(order) do
    if lanes[key].odd then odd[#odd + 1] = { key, lanes[key].running } else regard(q, key, out) end
  end
  write('ZREM', q and K.ring(q), places)
  write('HDEL', q and K.slots(q), out.left)
  write('ZADD', q and K.ring(q), out.ring)
  write('HSET', q and K.slots(q), out.slots)
  write('ZADD', q and K.heads(q), out.heads)
  write('ZREM', q and K.heads(q), out.over)
  write('ZREM', q and K.full(q), out.over)
  write('ZADD', q and K.full(q), out.full)
  view, few, lanes, order, gone, places, started, keyed = nil, nil, {}, {}, {}, {}, {}, {}
  for _, one in ipairs(odd) do L.regard(q, one[1], one[2]) end
end

-- As L.key_starts.
function L.key_begins(q, key, member)
  if queue ~= q then L.settle_lanes() end
  queue = q
  keyed[#keyed + 1], keyed[#keyed + 2] = 0, key .. '\0' .. member
  started[#started + 1], started[#started + 2] = member, key
end

-- The first of the ring: key and place, or nil.
function L.next_key(q)
  if queue ~= q then L.settle_lanes() end
  queue = q
  for _ = 1, 20 do
    if view and (#view > 0 or not more) then break end
    L.settle_lanes()
    local found = redis.pcall('ZRANGE', K.ring(q), 0, PLACES - 1)
    view, more = {}, #found == PLACES
    for _, member in ipairs(found) do
      local key, place = L.ring_entry(q, member)
      if key then view[#view + 1] = { key = key, place = place } end
    end
  end
  if view and view[1] then return view[1].key, view[1].place end
end

-- Whether a key's executions must be counted: not while those of all keys are too few for one to be at its cap.
local function counted(q)
  local per = L.rule(q).per
  if per and not few then few = redis.pcall('ZCARD', K.keyed(q)) end
  return per and not (type(few) == 'number' and few + MOST < per)
end

-- The lane of a key: its `entries` begin with its first job.
function L.lane_of(q, key)
  local lane = lanes[key]
  if not lane then
    lane = { running = counted(q) and L.running(q, key) or 0 }
    lane.entries, lane.odd = L.lane_some(q, key, nil, ENTRIES)
    lanes[key] = lane
  end
  return lane
end

-- Where the key comes next, among the places that were read.
local function again(key, place)
  for i, one in ipairs(view) do
    if one.place == place then
      view, more = {}, true -- both at once: as Redis has them
      return
    elseif place < one.place then
      return table.insert(view, i, { key = key, place = place })
    end
  end
  if not more then view[#view + 1] = { key = key, place = place } end
end

-- The lane's first job, whose key stood first in the ring, runs; so many of the key ran before.
function L.lane_taken(q, key, place, entry, running)
  local lane = lanes[key]
  if not (view and lane) then -- they were settled meanwhile
    L.settle_lanes()
    redis.call('ZREM', K.lanes(q), entry.member)
    return L.regard(q, key, running + 1)
  end
  table.remove(lane.entries, 1)
  gone[#gone + 1], places[#places + 1] = entry.member, place .. '\0' .. key
  lane.running = lane.running + 1
  if not lane.taken then order[#order + 1] = key end
  lane.taken = true
  if #lane.entries == 0 and not lane.odd then lane.entries, lane.odd = L.lane_some(q, key, entry.member, ENTRIES) end
  table.remove(view, 1)
  local head, per = lane.entries[1], L.rule(q).per
  if lane.odd and not head then
    view, more = {}, true
  elseif head and not (per and lane.running >= per) then
    again(key, head.place)
  end
end
