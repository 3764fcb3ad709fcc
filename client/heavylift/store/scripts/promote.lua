-- A delayed job waits from now on.
-- ARGV: prefix, prefix, job.
-- Returns: {verdict, message}; `already` = it waits.
-- With: _change.lua
local job = ARGV[3]
local h, why, message = L.load(job)
if not h then return { why, message } end
local state, q = L.STATES[h.status or ''], h.origin
if not state or not q then return { 'corrupt', 'the job has no known status or no origin' } end
if state == 'waiting' then return { 'already', 'it waits' } end
if state ~= 'delayed' then return { 'refused', 'it is ' .. state } end
local wrong = L.unfit(q, h)
if wrong then return { 'corrupt', wrong } end
L.soon(q, job, h, 'promoted')
return { 'applied', '' }
