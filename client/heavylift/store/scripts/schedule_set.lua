-- Suspend a client's schedule, or resume it: ticks in between are not missed, they never were.
-- ARGV: prefix, prefix, id, 'suspend'|'resume', by, mark ms, next ms or ''.
-- Returns: {verdict, message}: applied | already | refused (a HeavySchedule's) | missing | corrupt.
-- With: _schedules.lua
local id, key, suspend = ARGV[3], K.schedule(ARGV[3]), ARGV[4] == 'suspend'
local h, why, message = L.schedule(id)
if not h then return { why, message } end
if (h.uid or '') ~= '' then return { 'refused', L.foreign(h) .. ' (spec.suspend)' } end
if suspend == (h.suspended ~= nil) then return { 'already', '' } end
if suspend then
  call('HSET', key, 'suspended', ARGV[5], 'suspendedAt', L.int(NOW))
  L.look(id, nil, true)
else
  local next_ = tonumber(ARGV[7])
  call('HSET', key, 'mark', L.int(max(L.num(h.mark, 0), min(tonumber(ARGV[6]), NOW))), 'next', ARGV[7])
  call('HDEL', key, 'suspended', 'suspendedAt')
  if not next_ then call('HDEL', key, 'next') end
  L.look(id, next_, false)
end
L.emit(h.queue, suspend and 'schedule-suspended' or 'schedule-resumed', '', 'schedule', id, 'by', ARGV[5])
return { 'applied', '' }
