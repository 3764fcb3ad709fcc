-- Delete a schedule; its jobs stay.
-- ARGV: prefix, prefix, id, uid of the HeavySchedule it came from ('' = a client's), by, queue it has to be of or ''.
-- Returns: {verdict, message}: applied | refused | missing | corrupt.
-- With: _schedules.lua
local id = ARGV[3]
local h, why, message = L.schedule(id)
if why == 'corrupt' then return { why, message } end
if not h then
  call('ZREM', K.schedules, id)
  try('ZREM', K.failing, id)
  return { why, message }
end
if (h.uid or '') ~= ARGV[4] then return { 'refused', L.foreign(h) } end
if ARGV[6] ~= '' and h.queue ~= ARGV[6] then
  return { 'refused', 'it is of the queue ' .. (h.queue or '?') .. ': delete it there' }
end
call('DEL', K.schedule(id))
call('ZREM', K.schedules, id)
try('ZREM', K.failing, id)
L.emit(h.queue, 'schedule-deleted', '', 'schedule', id, 'by', ARGV[5])
return { 'applied', '' }
