-- One job.
-- ARGV: prefix, prefix, job, look for its position '1'|'0'.
-- Returns: {'ok' | 'missing' | 'corrupt', message, {field, value, ...}, position or -1}.
local h, why, message = L.load(ARGV[3])
if not h then return { why, message, {}, -1 } end
local position = -1
if ARGV[4] == '1' and h.status == 'queued' and h.origin then
  local key = K.level(h.origin, L.priority(h))
  if L.type(key) == 'list' then position = call('LPOS', key, ARGV[3], 'MAXLEN', 1000) or -1 end
  if position < 0 then position = L.lane_position(h.origin, ARGV[3], h) or -1 end
end
return { 'ok', '', L.flat(h), position }
