-- Read schedules: one, or a page of all.
-- ARGV: prefix, prefix, id or '', start, count.
-- Returns: {number looked at, {{id, {field, value, ...}}, ...}}.
-- With: _schedules.lua
local wrong = L.wrong(K.schedules, 'zset')
if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end
local start, rows = tonumber(ARGV[4]), {}
local ids = ARGV[3] ~= '' and { ARGV[3] } or call('ZRANGE', K.schedules, start, start + tonumber(ARGV[5]) - 1)
for _, id in ipairs(ids) do
  local h, why, message = L.schedule(id)
  if why == 'corrupt' and ARGV[3] ~= '' then return redis.error_reply('WRONGTYPE ' .. message) end
  if h then rows[#rows + 1] = L.schedule_row(id, h) end
end
return { #ids, rows }
