-- Whether the caller may still act on this execution; takes away the mark of `attend`, nothing else.
-- ARGV: prefix, prefix, job, execution, worker or '', UID or ''.
-- Returns: {verdict, message}; `applied` = go on, `cancelled` = a cancel is requested.
local f = L.fence_arguments()
local h, why, message = L.load(f.job)
local verdict, reason = L.fence(h, why, message, f)
if verdict then return { verdict, reason } end
if h['hl:attended'] then call('HDEL', K.job(f.job), 'hl:attended') end
return { L.cancelled(h) and 'cancelled' or 'applied', '' }
