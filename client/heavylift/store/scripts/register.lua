-- A dispatcher is alive until now + ttl: it counts for the install's width.
-- ARGV: prefix, prefix, install, worker, ttl ms ('0' = it leaves).
-- Returns: number of live dispatchers.
local key, ttl = K.dispatchers(ARGV[3]), tonumber(ARGV[5])
local wrong = L.wrong(key, 'zset')
if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end
if ttl > 0 then
  call('ZADD', key, L.int(NOW + ttl), ARGV[4])
  try('SADD', K.installs, ARGV[3])
else
  call('ZREM', key, ARGV[4])
end
call('ZREMRANGEBYSCORE', key, '-inf', L.int(NOW - 86400000))
return call('ZCOUNT', key, '(' .. L.int(NOW), '+inf')
