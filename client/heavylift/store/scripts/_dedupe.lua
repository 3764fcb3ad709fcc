-- Deduplication: at most one unfinished job per key. The hash K.dedup(q) has one field per key in use: `job`,
-- `job|until ms` (a throttle) or `job||follower` (the follower is deferred until `job` ended).
--
-- An entry holds only while its job stands, carries the key and has not ended; a throttle holds until its time, over
-- success and failure too. What does not hold is free for the next producer: an entry left behind by RQ's own cancel or
-- delete costs memory, never a job, until `sweep` removes it.
-- Opened when first used.
L.HOLDER = { 'status', 'origin', 'hl:dedup', 'hl:seq', 'hl:exec', 'hl:priority', 'hl:lifo', 'hl:key', 'hl:due', 'hl:op',
  'enqueued_at', 'enqueue_at_front' }

function L.dedup_read(q, key)
  local text = call('HGET', K.dedup(q), key)
  if not text then return nil end
  -- Part by part: a pattern for all of it would try a stranger's text in cubically many ways.
  local job, rest = string.match(text, '^([%w_-]+)(.*)$')
  local till, follower = string.match(rest or '', '^|(%d*)|([%w_-]*)$')
  till = till or string.match(rest or '', '^|(%d*)$')
  if not job or #text > 600 or (rest ~= '' and not till) then return { job = '' } end
  return { job = job, till = L.num(till, nil), follower = follower ~= '' and follower or nil }
end

local function put(q, key, entry)
  local text = entry.job
  if entry.till or entry.follower then text = text .. '|' .. (entry.till and L.int(entry.till) or '') end
  if entry.follower then text = text .. '|' .. entry.follower end
  call('HSET', K.dedup(q), key, text)
end

-- The job's fields if it stands and carries this key.
local function bearer(q, key, job)
  local h = L.load(job, L.HOLDER)
  return h and h['hl:dedup'] == key and h.origin == q and h or nil
end

-- completed, failed or cancelled once nothing of it runs (RQ's own cancel comes before the end of the pod), else nil.
local function ended(h)
  local state = L.STATES[h.status or '']
  return not h['hl:exec'] and (state == 'completed' or state == 'failed' or state == 'cancelled') and state or nil
end

-- The job of this key is over: its follower goes next, or the key is free.
local function pass(q, key, entry)
  local h = entry.follower and bearer(q, key, entry.follower)
  if not h or ended(h) then
    call('HDEL', K.dedup(q), key)
  elseif h.status ~= 'deferred' then -- RQ's tools let it go already
    put(q, key, { job = entry.follower })
  elseif not L.unfit(q, h) then -- else it stays for the sweep, until the queue's keys are mended
    put(q, key, { job = entry.follower })
    L.undefer(q, entry.follower, h, 'the job before it ended')
    call('HDEL', K.job(entry.follower), 'hl:reason')
  end
end

-- Who holds a key now: its entry and the job's fields, or nil when it is free.
function L.dedup_holder(q, key)
  for _ = 1, 2 do
    local entry = L.dedup_read(q, key)
    if not entry then return nil end
    local h = bearer(q, key, entry.job)
    local state = h and ended(h)
    if h and entry.till and entry.till > NOW and state ~= 'cancelled' then return entry, h end
    if h and not entry.till and not state then return entry, h end
    if not entry.follower then return nil end
    pass(q, key, entry)
  end
end

-- Note who holds a key from now on: `job`, until a time (false = none, nil = it waits again: as before); the follower of
-- the one before stays. A wrong type costs the key, not what waits again: claim asks in the middle of its work.
function L.dedup_take(q, key, job, till)
  if L.wrong(K.dedup(q), 'hash') then return end
  local old = L.dedup_read(q, key)
  local h = old and old.follower and old.follower ~= job and bearer(q, key, old.follower)
  if till == nil and old and old.job == job then till = old.till end -- a throttle stays one when its job is retried
  put(q, key, { job = job, till = till, follower = h and h.status == 'deferred' and old.follower or nil })
end
function L.dedup_follow(q, key, job)
  local entry = L.dedup_read(q, key)
  entry.follower = job
  put(q, key, entry)
end

-- The other job that holds the key of a job which is to wait again, or nil.
function L.dedup_rival(q, key, job)
  local entry = key and L.type(K.dedup(q)) == 'hash' and L.dedup_holder(q, key)
  return entry and entry.job ~= job and entry.job or nil
end

-- A job with this key ended as `state`, or is removed (nil).
function L.dedup_end(q, key, job, state)
  if not key or L.type(K.dedup(q)) ~= 'hash' then return end
  local entry = L.dedup_read(q, key)
  if not entry then return end
  if entry.follower == job then
    entry.follower = nil
    put(q, key, entry)
  elseif entry.job == job then
    local throttle = entry.till and entry.till > NOW and (state == 'completed' or state == 'failed')
    if not throttle then pass(q, key, entry) end
  end
end

-- Jobs of one queue with keys ended, {key, job, state} each: those that hold their keys plainly go together, the others one by
-- one, in their order. An error that one of them meets costs its key, which the sweep frees.
function L.dedup_ends(q, ends)
  local keys, plain = {}, {}
  for i, e in ipairs(ends) do keys[i] = e[1] end
  local found = try('HMGET', K.dedup(q), unpack(keys))
  if found.err then return end
  local others = {}
  for i, e in ipairs(ends) do
    if found[i] == e[2] then
      plain[#plain + 1] = e[1]
    elseif found[i] and string.find(found[i], e[2], 1, true) then
      others[#others + 1] = e
    end
  end
  if #plain > 0 then try('HDEL', K.dedup(q), unpack(plain)) end
  for _, e in ipairs(others) do pcall(L.dedup_end, q, unpack(e)) end
end

L.dedup_free = pass

-- Look at one entry, as the sweep does: true when it was stale (its time over is no fault: nil).
function L.dedup_mend(q, key)
  local entry = L.dedup_read(q, key)
  local holder = entry and L.dedup_holder(q, key)
  local over = entry and entry.till and entry.till <= NOW
  if not entry or holder then return holder and holder.job ~= entry.job and not over or nil end -- its follower goes on
  local now = L.dedup_read(q, key)
  if now and now.job == entry.job and not now.follower then call('HDEL', K.dedup(q), key) end
  return not over
end
