-- The epoch of this Redis's data, set now if it was missing.
-- ARGV: prefix, prefix, random part; the epoch is `<ms it began>-<random>`.
-- Returns: {epoch, '1' if it was missing}.
local wrong = L.wrong(K.epoch, 'string')
if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end
local new = call('SET', K.epoch, L.int(NOW) .. '-' .. ARGV[3], 'NX')
return { call('GET', K.epoch), new and '1' or '0' }
