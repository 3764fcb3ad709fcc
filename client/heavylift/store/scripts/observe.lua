-- Evidence on a Job or pod of the current execution. The caller merges it; `expected` is the text it merged with.
-- ARGV: prefix, prefix, job, execution, worker or '', UID or '', phase, reason, running ms or '', merged evidence JSON,
--   expected evidence JSON or ''.
-- Returns: {verdict | 'conflict', message, {field, value, ...}}; on `conflict` nothing changed: merge with the stored
--   evidence in the fields and ask again.
local f = L.fence_arguments()
local RANK = { claimed = 1, pending = 2, running = 3 }
local h, why, message = L.load(f.job)
local verdict, reason = L.fence(h, why, message, f)
if verdict then
  L.refuse(h and h.origin, verdict)
  return { verdict, reason, h and L.flat(h) or {} }
end
if (h['hl:evidence'] or '') ~= ARGV[11] then return { 'conflict', '', L.flat(h) } end
local before = h['hl:phase'] or 'claimed'
local set = { 'hl:reason', ARGV[8] }
local first = L.recorded(h, f.uid, set)
local function put(name, value)
  set[#set + 1] = name
  set[#set + 1] = value
  h[name] = value
end
h['hl:reason'] = ARGV[8]
if ARGV[10] ~= ARGV[11] then put('hl:evidence', ARGV[10]) end
local phase = RANK[ARGV[7]] > (RANK[before] or 0) and ARGV[7] or before
if phase ~= h['hl:phase'] then put('hl:phase', phase) end
if ARGV[9] ~= '' and not h['hl:running'] then put('hl:running', ARGV[9]) end
call('HSET', K.job(f.job), unpack(set))
if first then L.emit(h.origin, 'recorded', f.job, 'execution', f.execution, 'uid', f.uid) end
if phase == 'running' and before ~= 'running' then
  L.emit(h.origin, 'running', f.job, 'execution', f.execution, 'uid', h['hl:uid'] or '')
  L.breaker_close(h.origin)
end
return { L.cancelled(h) and 'cancelled' or 'applied', '', L.flat(h) }
