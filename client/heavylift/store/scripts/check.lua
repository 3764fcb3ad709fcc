-- Whether the caller may still act on this execution; changes nothing.
-- ARGV: prefix, prefix, job, execution, worker or '', UID or ''.
-- Returns: {verdict, message}; `applied` = go on, `cancelled` = a cancel is requested.
local f = L.fence_arguments()
local h, why, message = L.load(f.job)
local verdict, reason = L.fence(h, why, message, f)
if verdict then return { verdict, reason } end
return { L.cancelled(h) and 'cancelled' or 'applied', '' }
