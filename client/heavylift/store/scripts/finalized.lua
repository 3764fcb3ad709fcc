-- The finishing PATCH of a Job is confirmed ('0'), or is still owed ('1': finish did not know the Job's name).
-- ARGV: prefix, prefix, install, member, `job:execution` or '', owed '1'|'0'.
-- Returns: 1 when that changed something.
local key, of = K.unfinalized(ARGV[3]), K.unfinalized_jobs(ARGV[3])
local wrong = L.wrong(key, 'zset', of, 'hash')
if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end
if ARGV[6] == '1' then
  call('HSET', of, ARGV[4], ARGV[5])
  return call('ZADD', key, 'NX', L.int(NOW), ARGV[4])
end
call('HDEL', of, ARGV[4])
return call('ZREM', key, ARGV[4])
