-- What a queue's gauges show; cost: levels in use and up to 32 keys, whatever the backlog.
-- Jobs of one queue by state, and what its gauges need.
function L.counts(q)
  local function n(...)
    local got = try(...)
    return type(got) == 'number' and got or 0
  end
  local out = { waiting = n('LLEN', K.queue(q)), oldest = -1 }
  local lists = { K.queue(q) }
  if L.type(K.levels(q)) == 'zset' then
    for _, text in ipairs(call('ZRANGE', K.levels(q), 0, L.LEVELS_MAX)) do
      local p = L.num(text, 0)
      if p ~= 0 then
        lists[#lists + 1] = K.level(q, p)
        out.waiting = out.waiting + n('LLEN', K.level(q, p))
      end
    end
  end
  out.waiting = out.waiting + L.in_lanes(q)
  local head = try('ZRANGE', K.heads(q), 0, 0, 'WITHSCORES')
  local first = L.number(tonumber(head[2]))
  if first then out.oldest = max(min(first, NOW), 0) end
  local scheduled = K.registry('scheduled', q)
  local due = n('ZCOUNT', K.delayed(q), '-inf', L.int(NOW)) + n('ZCOUNT', scheduled, '-inf', NOW_S)
    - n('ZCOUNT', K.delayed(q), '-inf', L.int(NOW_S * 1000))
  out.waiting = out.waiting + due
  out.delayed = max(n('ZCARD', scheduled) - due, 0)
  out.active = n('ZCARD', K.started(q))
  out.children = n('ZCARD', K.registry('deferred', q))
  out.completed = n('ZCOUNT', K.registry('finished', q), NOW_S, '+inf')
  out.failed = n('ZCOUNT', K.registry('failed', q), NOW_S, '+inf')
  out.cancelled = n('ZCARD', K.registry('canceled', q))
  out.quarantined = n('LLEN', K.quarantine(q))
  for _, list in ipairs(lists) do
    local head = try('LINDEX', list, 0)
    local h = type(head) == 'string' and L.load(head, L.SINCE)
    local at = h and L.since(h)
    if at and (out.oldest < 0 or at < out.oldest) then out.oldest = at end
  end
  return out
end

-- What holds the whole queue back, or nil; the settings, or nil.
local function held(q)
  local set, wrong = L.settings(q)
  if L.type(K.pause(q)) ~= 'none' or (set and set.spec.paused == true) then return 'paused', set end
  if call('EXISTS', K.suspended) == 1 then return 'suspended', set end
  if not set then return wrong and 'corrupt' or 'no-heavyqueue', nil end
  return nil, set
end

-- Counts and what a claim without end could start now:
--   startable  at most that many; 0 while something holds the whole queue back
--   demand     active + startable: what an autoscaler should follow
--   aside      waiting jobs that only their key's cap holds back
--   rateLeft, rateNext  starts left in the window of the rate limit (-1 = no limit), ms until one more (-1 = now)
--   slowed, slowedBy    ms a program of the queue still holds it back for (RateLimited), and its job; else absent
function L.gauges(q)
  local out = L.counts(q)
  local reason, set = held(q)
  local most = set and L.number(set.spec.concurrencyMax)
  local left, wait
  if set then left, wait = L.rate(q, set) end
  local hold = try('PTTL', K.hold(q))
  if type(hold) == 'number' and hold > 0 then
    left, wait, out.slowed = 0, max(hold, wait or 0), hold
    local by = try('GET', K.hold(q))
    out.slowedBy = type(by) == 'string' and #by <= 200 and string.match(by, '^[%w_-]+$') or ''
  end
  local breaker = L.breaker(q)
  if breaker and not reason then reason = 'breaker' end
  out.aside, out.rateLeft, out.rateNext = L.in_lanes(q) - L.lanes_room(q), left or -1, wait or -1
  out.paused, out.held = reason == 'paused', reason or ''
  out.cap, out.install = most or -1, set and set.install or ''
  local room = min(out.waiting - out.aside, most and most - out.active or math.huge)
  if out.rateLeft >= 0 then room = min(room, out.rateLeft) end
  if reason == 'breaker' then -- one probe, when it is due
    room = min(room, (breaker.wait > 0 or breaker.probing) and 0 or 1)
  elseif reason then
    room = 0
  end
  out.startable = max(room, 0)
  out.demand = out.active + out.startable
  return out
end
