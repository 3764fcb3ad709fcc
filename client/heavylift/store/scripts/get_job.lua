-- One job.
-- ARGV: prefix, prefix, job, look for its position '1'|'0'.
-- Returns: {'ok' | 'missing' | 'corrupt', message, {field, value, ...}, position or -1}.
-- With: _rqdue.lua
local h, why, message = L.load(ARGV[3])
if not h then return { why, message, {}, -1 } end
local position = -1
if ARGV[4] == '1' and h.status == 'queued' and h.origin then
  local function place(list) return L.type(list) == 'list' and call('LPOS', list, ARGV[3], 'MAXLEN', 1000) end
  local own, base = K.level(h.origin, L.priority(h)), K.queue(h.origin)
  position = place(own) or L.lane_position(h.origin, ARGV[3], h) or (own ~= base and place(base)) or -1 -- RQ knows one list
end
L.rq_due(ARGV[3], h)
return { 'ok', '', L.flat(h), position }
