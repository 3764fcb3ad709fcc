-- Whether the caller may still act on this execution; takes away the mark of `attend`, nothing else.
-- ARGV: prefix, prefix, job, execution, worker or '', UID or ''.
-- Returns: {verdict, message}; `applied` = go on, `cancelled` = a cancel is requested.
-- The dispatcher asks just before it makes the Job: an execution whose job was deleted or enqueued anew starts nothing, so
-- its start does not count. One that ended has left the started registry: it had its start, whoever asks late.
local f = L.fence_arguments()
local h, why, message = L.load(f.job, L.FENCED)
local member, counted = f.job .. ':' .. f.execution, {}
if why == 'missing' or (h and h['hl:exec'] ~= f.execution) then
  for _, key in ipairs(L.members(K.queues)) do
    local q = string.sub(key, #K.queue('') + 1)
    if type(try('ZSCORE', K.started(q), member)) == 'string' then counted[#counted + 1] = q end
  end
end
local verdict, reason = L.fence(h, why, message, f)
for _, q in ipairs(counted) do
  L.rate_return(q, member)
  call('PUBLISH', K.doorbell, q) -- its place is free for another
end
if verdict then return { verdict, reason } end
if h['hl:attended'] then call('HDEL', K.job(f.job), 'hl:attended') end
return { L.cancelled(h) and 'cancelled' or 'applied', '' }
