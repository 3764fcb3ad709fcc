-- Enqueue a schedule's job now, whatever its policy says; ticks, limit and mark stay as they are.
-- ARGV: prefix, prefix, id, revision, entry as of `enqueue`.
-- Returns: {verdict, message or the job's id}: applied | already (changed since) | refused | missing | corrupt.
-- With: _schedules.lua, _accept.lua
local id = ARGV[3]
local h, why, message = L.schedule(id)
if not h then return { why, message } end
if h.revision ~= ARGV[4] then return { 'already', '' } end
local unserved = L.unserved(h)
if unserved then return { 'refused', unserved } end
local unfinished = L.unfinished(h)
local made = L.accept((L.entry(5)))
if made[4] == 'corrupt' then return { 'corrupt', made[5] } end
if made[4] ~= '' then return { 'refused', made[5] } end
call('HSET', K.schedule(id), 'jobs', L.remember(unfinished, made[1]), 'lastJob', made[1])
L.emit(h.queue, 'schedule-triggered', made[1], 'schedule', id)
return { 'applied', made[1] }
