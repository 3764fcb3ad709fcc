-- Schedules that somebody should look at now, the longest waiting first; bounded by number and bytes.
-- ARGV: prefix, prefix, latest moment that counts as now (ms) or '', most schedules, most bytes.
-- Returns: {now ms, ms until the next look or -1, {{id, {field, value, ...}}, ...}, {{id, what is wrong with it}, ...}}.
-- With: _schedules.lua
local now = min(tonumber(ARGV[3]) or NOW, NOW)
local wrong = L.wrong(K.schedules, 'zset')
if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end
local rows, bytes, corrupt = {}, tonumber(ARGV[5]), {}
for _, id in ipairs(call('ZRANGEBYSCORE', K.schedules, '-inf', L.int(now), 'LIMIT', 0, tonumber(ARGV[4]))) do
  local h, why, message = L.schedule(id)
  if h then
    bytes = bytes - #h.definition
    if bytes < 0 and #rows > 0 then break end
    rows[#rows + 1] = { id, L.flat(h) }
  elseif why == 'missing' then
    call('ZREM', K.schedules, id)
    try('ZREM', K.failing, id)
  else
    corrupt[#corrupt + 1] = { string.sub(id, 1, 200), message }
    if L.schedule_id(id) then
      call('ZADD', K.schedules, L.int(now + L.LOOK_AGAIN), id)
      try('ZADD', K.failing, 'NX', L.int(now), id)
    else -- nobody can define it anew
      call('ZREM', K.schedules, id)
    end
  end
end
local following = call('ZRANGEBYSCORE', K.schedules, '(' .. L.int(now), '(+inf', 'WITHSCORES', 'LIMIT', 0, 1)
return { L.int(now), following[2] and L.int(tonumber(following[2]) - now) or '-1', rows, corrupt }
