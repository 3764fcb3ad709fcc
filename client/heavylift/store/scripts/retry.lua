-- Let a failed or cancelled job wait again: attempts from zero, history kept, new seq.
-- ARGV: prefix, prefix, job, token of this operation, options JSON or '' to keep them, by.
-- Returns: {verdict, message}.
local job = ARGV[3]
local h, why, message = L.load(job)
if not h then return { why, message } end
if h['hl:op'] == ARGV[4] then return { 'already', '' } end
local state, q = L.STATES[h.status or ''], h.origin
if not state or not q then return { 'corrupt', 'the job has no known status or no origin' } end
if state ~= 'failed' and state ~= 'cancelled' then return { 'refused', 'it is ' .. state } end
if h['hl:exec'] then return { 'refused', 'its pod is still being stopped' } end
local wrong = L.unfit(q, h)
if wrong then return { 'corrupt', wrong } end
local set = { 'hl:op', ARGV[4] }
if ARGV[5] ~= '' then
  set[#set + 1] = 'hl:options'
  set[#set + 1] = ARGV[5]
end
L.revive(q, job, h, set)
return { 'applied', '' }
