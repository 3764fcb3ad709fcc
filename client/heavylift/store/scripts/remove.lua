-- Remove one job that is not active, and all that is kept of it.
-- ARGV: prefix, prefix, job.
-- Returns: {verdict, message}.
local job = ARGV[3]
local h, why, message = L.load(job)
if not h then return { why, message } end
local state, q = L.STATES[h.status or ''], h.origin
if not state or not q then return { 'corrupt', 'the job has no known status or no origin' } end
if state == 'active' or h['hl:exec'] then return { 'refused', 'it is active: cancel it' } end
local name = (h['hl:ns'] or '') .. '/' .. (h['hl:job'] or '')
if type(try('ZSCORE', K.unfinalized(h['hl:install'] or ''), name)) == 'string' then
  return { 'refused', 'its Kubernetes Job is not let go yet: try again in some seconds' }
end
local ended = state == 'completed' or state == 'failed' or state == 'cancelled'
L.displace(q, job, h)
L.remove(q, job, ended and state or 'failed')
L.count(q, 'removed')
L.emit(q, 'removed', job, 'reason', 'by request', 'prev', state, 'final', ended and '0' or '1')
call('PUBLISH', K.done(job), 'removed')
return { 'applied', '' }
