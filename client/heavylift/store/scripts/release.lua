-- Give an execution without a running Job back: to the front of its queue, or among the delayed. No attempt is spent;
-- seq is given back when no Job was ever recorded. A requested cancel ends the job instead.
-- ARGV: prefix, prefix, job, execution, worker or '', UID or '', reason, delay ms, silent '1'|'0', token of this
--   operation, ends JSON {cancelled, silent: {class, body, exc}}, silent claims allowed.
-- Returns: {verdict, message}; `cancelled` = the job ended as cancelled.
local f, token, ends = L.fence_arguments(), ARGV[10], nil
local silent = ARGV[9] == '1'
local h, why, message = L.load(f.job)
if h and h['hl:op'] == token then return { 'already', '' } end
local verdict, reason = L.fence(h, why, message, f)
if not verdict and silent and (h['hl:uid'] or L.num(h['hl:deadline'], 0) > NOW) then
  verdict, reason = 'refused', h['hl:uid'] and 'a Job is recorded' or 'its claim deadline has not passed'
end
local q = h and h.origin
if not verdict then
  local wrong = L.unfit(q, h)
  if wrong then verdict, reason = 'corrupt', wrong end
end
if verdict then
  L.refuse(q, verdict)
  return { verdict, reason }
end
ends = cjson.decode(ARGV[11])
if not h['hl:uid'] then L.rate_return(q, f.job .. ':' .. f.execution) end -- it started nothing
local seq, attempts = L.num(h['hl:seq'], 1), L.num(h['hl:attempts'], 0)
-- Silence is the job's fault only if the dispatcher had it in hand: it dies with others' jobs claimed, too. The first
-- silence makes the job a suspect; a further one counts if the dispatcher had attended to this very claim.
local quiet = L.num(h['hl:silent'], 0)
if not silent then
  quiet = 0
elseif quiet == 0 or (h['hl:attended'] and h['hl:attended'] == h['hl:claimed']) then
  quiet = quiet + 1
end
local ended = (L.cancelled(h) and 'cancelled') or (silent and quiet >= tonumber(ARGV[12]) and 'silent')
if ended then
  local e = ends[ended]
  L.finish(q, f.job, h, { state = ended == 'cancelled' and 'cancelled' or 'failed', body = e.body, class = e.class,
    exc = e.exc, execution = f.execution, seq = seq, attempt = attempts + 1, worker = h['hl:worker'],
    fields = { 'hl:op', token } })
  L.forget(q, f.job, f.execution, h['hl:worker'], h['hl:install'])
  return { ended == 'cancelled' and 'cancelled' or 'applied', e.class }
end
local delay = tonumber(ARGV[8])
local due = delay > 0 and NOW + delay or nil
local set = { 'status', due and 'scheduled' or 'queued', 'hl:reason', ARGV[7], 'hl:op', token, 'hl:silent', L.int(quiet),
  'worker_name', '', 'started_at', '' }
if not h['hl:uid'] then
  set[#set + 1] = 'hl:seq'
  set[#set + 1] = L.int(seq - 1)
end
if due then
  set[#set + 1] = 'hl:due'
  set[#set + 1] = L.int(due)
end
call('HSET', K.job(f.job), unpack(set))
call('HDEL', K.job(f.job), 'hl:job', 'hl:uid', 'hl:claimed', 'hl:running', 'hl:evidence', 'hl:attended',
  unpack(L.EXECUTION_FIELDS))
L.place(q, f.job, h, true, due)
L.forget(q, f.job, f.execution, h['hl:worker'], h['hl:install'])
if due then call('PUBLISH', K.doorbell, q) end -- its place is free for another
L.count(q, 'released')
L.emit(q, 'released', f.job, 'execution', f.execution, 'seq', L.int(seq), 'worker', h['hl:worker'] or '', 'reason',
  string.sub(ARGV[7], 1, 500))
return { 'applied', '' }
