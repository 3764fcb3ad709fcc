-- What executions of keys leave behind when they end: those of one call together. The indexes of their keys are read
-- together, and written only where an end changes something: a key that has its place in the ring keeps it.
-- With: _keys.lua
-- Opened when first used.
local PLACE = 21 -- characters of a place in the ring
local function ask(...)
  local got = try(...)
  if type(got) == 'table' and got.err then return nil end
  return got
end
local function write(command, key, words) return #words > 0 and ask(command, key, unpack(words)) or 0 end
local function add(list, a, b)
  local n = #list
  list[n + 1], list[n + 2] = a, b
end

-- Out of the index of executions by key; returns the keys, in their order.
local function drop(q, members, of)
  local keys, seen, entries, fields = {}, {}, {}, {}
  for i, member in ipairs(members) do
    local key = of[i]
    if type(key) == 'string' then
      add(entries, key .. '\0' .. member)
      add(fields, member)
      if not seen[key] then add(keys, key) end
      seen[key] = true
    end
  end
  write('ZREM', K.keyed(q), entries)
  write('HDEL', K.keyof(q), fields)
  return keys
end

-- Keys out of the ring; their places as the slots have them.
local function unplace(q, keys, slots)
  local places, had = {}, {}
  for i, key in ipairs(keys) do
    if slots[i] then
      add(places, slots[i] .. '\0' .. key)
      add(had, key)
    end
  end
  write('ZREM', K.ring(q), places)
  write('HDEL', K.slots(q), had)
end

-- Keys whose lanes are empty stand nowhere.
local function vanish(q, keys)
  write('ZREM', K.heads(q), keys)
  write('ZREM', K.full(q), keys)
  unplace(q, keys, #keys > 0 and ask('HMGET', K.slots(q), unpack(keys)) or {})
end

-- Of these keys those that an end may change something for, with their slots, and which of them were at their cap.
local function moved(q, keys)
  local shape = L.rule(q).fair and '^r%d+$' or '^f%d+$'
  local slots, full = ask('HMGET', K.slots(q), unpack(keys)) or {}, ask('ZMSCORE', K.full(q), unpack(keys)) or {}
  local places, at = {}, {}
  for i, slot in ipairs(slots) do
    if slot and #slot == PLACE and string.match(slot, shape) then
      add(places, slot .. '\0' .. keys[i])
      at[i] = #places
    end
  end
  local there = #places > 0 and ask('ZMSCORE', K.ring(q), unpack(places)) or {}
  local found, held, capped = {}, {}, {}
  for i, key in ipairs(keys) do
    if full[i] or not (at[i] and there[at[i]]) then
      add(found, key)
      held[#found], capped[#found] = slots[i] or false, full[i]
    end
  end
  return found, held, capped
end

-- Whether executions of a key must be counted: not while those of all keys are too few for one to be at its cap.
local function tight(q, per) return per and (ask('ZCARD', K.keyed(q)) or per) >= per end

-- Executions of a queue ended, `of` = the key of each, or false; returns whether a key came down from its cap, so that
-- those who wait should hear of it.
function L.keys_end(q, members, of)
  local keys = drop(q, members, of)
  if L.in_lanes(q) == 0 then return vanish(q, keys) end
  local per, fair = L.rule(q).per, L.rule(q).fair
  local found, slots, capped = moved(q, keys)
  local few, gone, left, placed = not tight(q, per), {}, { keys = {}, slots = {} }, {}
  local heads, full, freed, ring = {}, {}, {}, {}
  for i, key in ipairs(found) do
    local head = L.lane_head(q, key)
    if not head then
      add(gone, key)
    elseif not few and L.running(q, key) >= per then
      add(left.keys, key)
      left.slots[#left.keys] = slots[i]
      add(heads, L.int(L.head_ms(head.rank)), key)
      add(full, NOW_MS, key)
    elseif fair then -- turns are given one after another
      L.regard(q, key)
    else
      if slots[i] and slots[i] ~= head.place then add(left, slots[i] .. '\0' .. key) end
      if capped[i] then add(freed, key) end
      add(heads, L.int(L.head_ms(head.rank)), key)
      add(ring, '0', head.place .. '\0' .. key)
      add(placed, key, head.place)
    end
  end
  vanish(q, gone)
  unplace(q, left.keys, left.slots)
  write('ZREM', K.ring(q), left)
  write('ZADD', K.heads(q), heads)
  write('ZADD', K.full(q), full)
  write('ZADD', K.ring(q), ring)
  write('HSET', K.slots(q), placed)
  return write('ZREM', K.full(q), freed) > 0
end
