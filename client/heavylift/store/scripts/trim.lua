-- One bounded step of retention for a queue, for times when nothing ends.
-- ARGV: prefix, prefix, queue, step.
-- Returns: number of entries removed.
local removed = 0
for _, state in ipairs({ 'completed', 'failed', 'cancelled' }) do
  if L.type(K.ended(ARGV[3], state)) == 'zset' then removed = removed + L.trim(ARGV[3], state, tonumber(ARGV[4])) end
end
return removed
