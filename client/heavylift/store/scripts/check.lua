-- Whether the caller may still act on this execution; takes away the mark of `attend`, nothing else.
-- ARGV: prefix, prefix, job, execution, worker or '', UID or ''.
-- Returns: {verdict, message}; `applied` = go on, `cancelled` = a cancel is requested.
-- The dispatcher asks just before it makes the Job: an execution whose job was deleted or enqueued anew starts nothing, so
-- its start does not count.
local f = L.fence_arguments()
local h, why, message = L.load(f.job)
local verdict, reason = L.fence(h, why, message, f)
if verdict == 'missing' or (verdict == 'refused' and h['hl:exec'] ~= f.execution) then
  for _, key in ipairs(L.members(K.queues)) do
    L.rate_return(string.sub(key, #K.queue('') + 1), f.job .. ':' .. f.execution)
  end
end
if verdict then return { verdict, reason } end
if h['hl:attended'] then call('HDEL', K.job(f.job), 'hl:attended') end
return { L.cancelled(h) and 'cancelled' or 'applied', '' }
