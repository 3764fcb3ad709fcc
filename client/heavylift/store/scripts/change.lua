-- Change a job that has not ended: its priority at any time; its delay and its data while nothing of it runs.
-- ARGV: prefix, prefix, job, token of this operation, priority or '', delay ms or '', data or '', fingerprint.
-- Returns: {verdict, message}.
-- With: _change.lua
local job, token = ARGV[3], ARGV[4]
local h, why, message = L.load(job)
if not h then return { why, message } end
if h['hl:op'] == token then return { 'already', '' } end
local state, q = L.STATES[h.status or ''], h.origin
if not state or not q then return { 'corrupt', 'the job has no known status or no origin' } end
if state == 'completed' or state == 'failed' or state == 'cancelled' then return { 'refused', 'it is ' .. state } end
local active = state == 'active' or h['hl:exec'] ~= nil
local priority, delay = tonumber(ARGV[5]), tonumber(ARGV[6])
if active and (delay or ARGV[7] ~= '') then return { 'refused', 'it is active: only its priority can be changed' } end
local set, refused = L.changed(h, priority, ARGV[7], ARGV[8])
refused = refused or (priority and L.crowded(q, priority))
local expires = L.num(h['hl:starts'], 0) == 0 and L.num(h['hl:expires'], nil)
if not refused and delay and delay > 0 and expires and expires <= NOW + delay then
  refused = 'it expires before it could start: give a shorter delay'
end
if refused then return { 'refused', refused } end
local wrong = L.unfit(q, h) or L.unfit(q, { ['hl:priority'] = priority and L.int(priority) or h['hl:priority'] })
if wrong then return { 'corrupt', wrong } end
set[#set + 1] = 'hl:op'
set[#set + 1] = token
local due = delay and delay > 0 and NOW + delay or nil
if due then
  set[#set + 1] = 'hl:due'
  set[#set + 1] = L.int(due)
end
if state == 'waiting' and (due or (priority and priority ~= L.priority(h))) then L.displace(q, job, h) end
if due and state == 'waiting' then
  set[#set + 1] = 'status'
  set[#set + 1] = 'scheduled'
end
call('HSET', K.job(job), unpack(set))
if delay and not due then call('HDEL', K.job(job), 'hl:due') end
local before = L.priority(h)
if priority then h['hl:priority'] = L.int(priority) end
if state == 'delayed' and delay == 0 then
  L.soon(q, job, h, 'promoted')
elseif due and (state == 'waiting' or state == 'delayed') then
  L.place(q, job, h, false, due)
elseif state == 'waiting' and priority and priority ~= before then
  L.place(q, job, h, false, nil)
end
L.count(q, 'changed')
L.emit(q, 'changed', job, 'priority', ARGV[5], 'delay', ARGV[6], 'data', ARGV[7] ~= '' and '1' or '0')
return { 'applied', '' }
