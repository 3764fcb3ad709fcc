-- Let failed or cancelled jobs wait again: attempts from zero, history kept, new seq; each for itself.
-- ARGV: prefix, prefix, token of this operation, by, priority or '', then per job: id, options JSON or '' to keep them,
--   data or '' to keep it, fingerprint.
-- Returns: per job {verdict, message}.
-- With: _change.lua
local token, priority = ARGV[3], tonumber(ARGV[5])

local function memory(options) return L.table(L.table(L.object(options)).resources).memory end

local function retry(job, options, data, fingerprint)
  local h, why, message = L.load(job)
  if not h then return { why, message } end
  if h['hl:op'] == token then return { 'already', '' } end
  local state, q = L.STATES[h.status or ''], h.origin
  if not state or not q then return { 'corrupt', 'the job has no known status or no origin' } end
  if state ~= 'failed' and state ~= 'cancelled' then return { 'refused', 'it is ' .. state } end
  if h['hl:exec'] then return { 'refused', 'its pod is still being stopped' } end
  local rival = L.dedup_rival(q, h['hl:dedup'], job)
  if rival then return { 'refused', 'the job ' .. rival .. ' holds its deduplication key' } end
  local set, refused = L.changed(h, priority, data, fingerprint)
  refused = refused or (priority and L.crowded(q, priority))
  if refused then return { 'refused', refused } end
  if priority then h['hl:priority'] = L.int(priority) end
  local wrong = L.unfit(q, h) or (h['hl:dedup'] and L.wrong(K.dedup(q), 'hash'))
  if wrong then return { 'corrupt', wrong } end
  set[#set + 1] = 'hl:op'
  set[#set + 1] = token
  if options ~= '' then
    set[#set + 1] = 'hl:options'
    set[#set + 1] = options
    if memory(options) ~= memory(h['hl:options']) then -- asked for anew: what it grew to does not count
      set[#set + 1] = 'hl:memory'
      set[#set + 1] = ''
    end
  end
  L.revive(q, job, h, set)
  return { 'applied', '' }
end

local replies = {}
for i = 6, #ARGV, 4 do replies[#replies + 1] = retry(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) end
return replies
