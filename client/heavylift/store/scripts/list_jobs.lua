-- A page of a queue's jobs in one state; ids whose hash is gone or which have moved on are left out.
-- ARGV: prefix, prefix, queue, state, start, count.
-- Returns: {ids looked at, job, {field, value, ...}, ...}; fewer looked at than asked for = the last page.
-- With: _serve.lua, _rqdue.lua
local q, state, from, count = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local ids, out = {}, {}
local function add(list)
  for _, id in ipairs(list) do ids[#ids + 1] = id end
end
local function zset(key, command)
  if L.type(key) == 'zset' then add(call(command, key, from, from + count - 1)) end
end
if state == 'waiting' then
  local skip = from
  for _, p in ipairs(L.levels(q, L.LEVELS_MAX)) do
    local key = K.level(q, p)
    local depth = L.type(key) == 'list' and call('LLEN', key) or 0
    if #ids < count and skip < depth then add(call('LRANGE', key, skip, skip + count - #ids - 1)) end
    skip = max(skip - depth, 0)
  end
  if #ids < count then add(L.lane_page(q, skip, count - #ids)) end
elseif state == 'active' then
  zset(K.started(q), 'ZRANGE')
  for i, member in ipairs(ids) do ids[i] = string.match(member, '^([^:]+)') or member end
elseif state == 'delayed' then
  zset(K.registry('scheduled', q), 'ZRANGE')
elseif state == 'waiting-children' then
  zset(K.registry('deferred', q), 'ZRANGE')
elseif state == 'cancelled' then
  zset(K.registry('canceled', q), 'ZREVRANGE')
else
  zset(K.ended(q, state), 'ZREVRANGE')
end
out[1] = #ids
for _, id in ipairs(ids) do
  local h = L.load(id)
  if h and L.STATES[h.status or ''] == state then
    L.rq_due(id, h)
    out[#out + 1] = id
    out[#out + 1] = L.flat(h)
  end
end
return out
