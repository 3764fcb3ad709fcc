-- Decide a schedule's next ticks: skip those that were missed, fire at most one. The mark is compared and moved in the
-- same step in which the job is enqueued, so whoever comes second changes nothing.
-- ARGV: prefix, prefix, id, revision and mark (ms) of the decision, new mark (ms), tick (ms) to fire or '', ticks missed,
--   next ms or '', policy Allow|Forbid|Replace, limit or '', cancel request JSON, its end JSON; with a tick its entry
--   as of `enqueue`.
-- Returns: {verdict, message}: applied | already (decided, changed or suspended since) | refused (not now; looked at
--   again) | missing | corrupt; the message says what became of the tick: fired | forbidden | over | taken | missed, or
--   replacing: it is not decided yet, there are more jobs to cancel first.
-- With: _schedules.lua, _accept.lua, _cancel.lua
local id, key = ARGV[3], K.schedule(ARGV[3])
local mark, tick, missed, next_ = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local policy, limit = ARGV[10], tonumber(ARGV[11])
local h, why, message = L.schedule(id)
if not h then return { why, message } end
local q = h.queue
if h.suspended then L.look(id, nil, true) end -- it should not have been found due
if h.revision ~= ARGV[4] or h.mark ~= ARGV[5] or h.suspended then return { 'already', '' } end
local function later(problem)
  L.defer(id, h, problem)
  return { 'refused', problem }
end
if mark > NOW or mark < tonumber(ARGV[5]) then return later('nothing of it is due: its mark is ahead of the clock') end

local function decided(what, set, upcoming)
  if missed > 0 then
    set[#set + 1] = 'missed'
    set[#set + 1] = L.int(L.num(h.missed, 0) + missed)
    L.count(q, 'ticks-missed', missed)
    L.emit(q, 'schedule-skipped', '', 'schedule', id, 'reason', 'missed', 'ticks', L.int(missed))
  end
  set[#set + 1] = 'mark'
  set[#set + 1] = L.int(mark)
  if upcoming then
    set[#set + 1] = 'next'
    set[#set + 1] = L.int(upcoming)
  end
  call('HSET', key, unpack(set))
  if not upcoming then
    call('HDEL', key, 'next')
    if h.next then L.emit(q, 'schedule-ended', '', 'schedule', id) end
  end
  L.look(id, upcoming, false)
  return { 'applied', what }
end
local function skipped(reason, problem)
  L.count(q, 'ticks-skipped')
  L.emit(q, 'schedule-skipped', '', 'schedule', id, 'reason', reason, 'tick', L.int(tick / 1000))
  local set = { 'skipped', L.int(L.num(h.skipped, 0) + 1) }
  if problem then
    set[3], set[4] = 'problem', problem
  end
  return decided(reason, set, next_)
end

if not tick then return decided('missed', {}, next_) end
if limit and L.num(h.fired, 0) >= limit then return decided('over', {}, nil) end
local unserved = L.unserved(h)
if unserved then return later(unserved) end
local unfinished = L.unfinished(h)
if policy == 'Forbid' and #unfinished > 0 then return skipped('forbidden') end
local replaced = policy == 'Replace' and L.uncancelled(unfinished) or {}
local function cancel(job)
  local verdict = L.cancel(job, ARGV[12], cjson.decode(ARGV[13]))[1]
  return verdict == 'applied' or verdict == 'cancelled'
end
if #replaced > L.REPLACED then
  local some = false
  for i = 1, L.REPLACED do some = cancel(replaced[i]) or some end
  if some then return { 'applied', 'replacing' } end -- none: they run elsewhere, and nobody here can stop them
end
local entry = L.entry(14)
local made = L.accept(entry)
if made[4] == 'corrupt' or made[4] == 'unknown-queue' then return later(made[5]) end
if made[4] ~= '' then return skipped('taken', made[5]) end -- somebody else's job has this tick's id
for i = 1, min(#replaced, L.REPLACED) do
  if replaced[i] ~= made[1] then cancel(replaced[i]) end
end
call('HDEL', key, 'problem')
local fired = L.num(h.fired, 0) + 1
return decided('fired', { 'last', L.int(tick), 'lastAt', L.int(NOW), 'lastJob', made[1], 'fired', L.int(fired),
  'jobs', L.remember(unfinished, made[1]) }, (not limit or fired < limit) and next_ or nil)
