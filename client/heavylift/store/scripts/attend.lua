-- The dispatcher takes up a job whose last claim went silent: if this one does too, the job is under suspicion. The word
-- comes before the job is decoded and rendered; `check`, just before its Job is created, takes the mark away.
-- ARGV: prefix, prefix, job, execution, worker or '', UID or ''.
-- Returns: {verdict, message}.
local f = L.fence_arguments()
local h, why, message = L.load(f.job, L.FENCED)
local verdict, reason = L.fence(h, why, message, f)
if verdict then return { verdict, reason } end
call('HSET', K.job(f.job), 'hl:attended', h['hl:claimed'] or '')
return { 'applied', '' }
