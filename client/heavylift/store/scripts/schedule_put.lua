-- Define a schedule, or define it anew (upsert by id). What was fired stays fired: with the same timing the mark and the
-- next tick stand, with another one ticks count from `since`.
-- ARGV: prefix, prefix, id, definition JSON, revision, timing JSON, queue, prefix of its jobs' ids, since ms, next ms
--   or '', suspended '1'|'0'|'' (as it is), by, install, namespace, name, uid, generation (five '' for a client's).
-- Returns: {verdict, message}: applied | already | refused | corrupt.
-- With: _schedules.lua
local id, key = ARGV[3], K.schedule(ARGV[3])
local definition, revision, timing, queue, prefix = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local since, next_, want = min(tonumber(ARGV[9]), NOW), tonumber(ARGV[10]), ARGV[11]
local install, uid = ARGV[13], ARGV[16]
local h, why, message = L.schedule(id)
if why == 'corrupt' then return { why, message } end
if h then
  if (h.uid or '') ~= '' and uid == '' then return { 'refused', L.foreign(h) } end
  if (h.install or '') ~= install then
    return { 'refused', 'the schedule ' .. id .. ' is owned by install ' .. (h.install or '?') }
  end
  if uid == '' and h.queue ~= queue then
    return { 'refused', 'the schedule ' .. id .. ' belongs to the queue ' .. h.queue .. ': choose another id' }
  end
  if (h.uid or '') ~= uid then h = nil end -- another object of the same name
end
local suspended = h and h.suspended or nil
if want == '1' then suspended = suspended or ARGV[12] elseif want == '0' then suspended = nil end
local same = h ~= nil and h.timing == timing and (h.suspended ~= nil) == (suspended ~= nil)
if same and h.revision == revision and h.prefix == prefix then
  if (h.generation or '') ~= ARGV[17] then call('HSET', key, 'generation', ARGV[17]) end
  return { 'already', '' }
end
local mark, upcoming = since, next_
if same and h.next then
  mark, upcoming = L.num(h.mark, since), L.num(h.next, nil)
elseif h then
  mark = max(L.num(h.mark, 0), since)
end
local set = { 'definition', definition, 'revision', revision, 'timing', timing, 'queue', queue, 'prefix', prefix,
  'mark', L.int(mark), 'by', ARGV[12], 'updated', L.int(NOW) }
local function add(name, value)
  set[#set + 1] = name
  set[#set + 1] = value
end
if upcoming then add('next', L.int(upcoming)) end
if suspended then
  add('suspended', suspended)
  if not (h and h.suspended) then add('suspendedAt', L.int(NOW)) end
end
if uid ~= '' then
  for i, name in ipairs({ 'install', 'namespace', 'name', 'uid', 'generation' }) do add(name, ARGV[12 + i]) end
end
if not h then
  call('ZADD', K.schedules, '+inf', id)
  call('DEL', key)
  add('created', L.int(NOW))
end
call('HSET', key, unpack(set))
call('HDEL', key, 'problem')
if not upcoming then call('HDEL', key, 'next') end
if not suspended then call('HDEL', key, 'suspended', 'suspendedAt') end
L.look(id, upcoming, suspended)
L.emit(queue, 'schedule-changed', '', 'schedule', id, 'by', ARGV[12])
return { 'applied', '' }
