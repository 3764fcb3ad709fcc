-- A schedule that cannot be fired as it stands: note why, and look at it again later; no tick is decided.
-- ARGV: prefix, prefix, id, revision the note is about, note.
-- Returns: {verdict, message}: applied | already (changed since) | missing | corrupt.
-- With: _schedules.lua
local h, why, message = L.schedule(ARGV[3])
if not h then return { why, message } end
if h.revision ~= ARGV[4] then return { 'already', '' } end
return L.defer(ARGV[3], h, ARGV[5])
