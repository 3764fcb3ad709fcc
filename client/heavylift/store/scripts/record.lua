-- The Job of an execution exists: remember its name and UID (filled in once, never changed).
-- ARGV: prefix, prefix, job, execution, worker or '', UID, Job name, namespace.
-- Returns: {verdict, message}; `cancelled` = recorded, and a cancel is requested.
local f = L.fence_arguments()
local h, why, message = L.load(f.job, L.FENCED)
local verdict, reason = L.fence(h, why, message, f)
if verdict then
  L.refuse(h and h.origin, verdict)
  return { verdict, reason }
end
local set = { 'hl:job', ARGV[7], 'hl:ns', ARGV[8] }
local first = L.recorded(h, f.uid, set)
if not first and h['hl:job'] == ARGV[7] then return { L.cancelled(h) and 'cancelled' or 'already', '' } end
call('HSET', K.job(f.job), unpack(set))
if first then
  L.emit(h.origin, 'recorded', f.job, 'execution', f.execution, 'uid', f.uid, 'name', ARGV[7], 'worker', f.worker)
end
return { L.cancelled(h) and 'cancelled' or 'applied', '' }
