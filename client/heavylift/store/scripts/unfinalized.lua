-- Jobs finished here whose finishing PATCH is not confirmed, oldest first.
-- ARGV: prefix, prefix, install, limit, older than ms.
-- Returns: {member, `job:execution`, ...}.
local key, of, out = K.unfinalized(ARGV[3]), K.unfinalized_jobs(ARGV[3]), {}
local wrong = L.wrong(key, 'zset', of, 'hash')
if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end
local before = L.int(NOW - tonumber(ARGV[5]))
for _, member in ipairs(call('ZRANGEBYSCORE', key, '-inf', before, 'LIMIT', 0, ARGV[4])) do
  out[#out + 1] = member
  out[#out + 1] = call('HGET', of, member) or ''
end
return out
