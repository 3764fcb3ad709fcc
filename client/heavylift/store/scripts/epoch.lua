-- The epoch of this Redis's data, set now if it was missing.
-- ARGV: prefix, prefix, value to set.
-- Returns: {epoch, '1' if it was missing}.
local wrong = L.wrong(K.epoch, 'string')
if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end
local new = call('SET', K.epoch, ARGV[3], 'NX')
return { call('GET', K.epoch), new and '1' or '0' }
