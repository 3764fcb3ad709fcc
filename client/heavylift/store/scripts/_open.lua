-- Whether a queue has something to claim.
-- Why a queue without a job to take needs no closer look, or nil. Most queues of an installation are empty most of the time.
function L.idle(q)
  local keys = { K.queue(q), K.levels(q), K.lanes(q), K.delayed(q), K.registry('scheduled', q), K.trouble(q) }
  if call('EXISTS', unpack(keys)) > 0 then return nil end
  local settings, pause = L.type(K.settings(q)), L.type(K.pause(q))
  if pause ~= 'none' then return pause == 'hash' and 'paused' or nil end
  local started = L.type(K.started(q))
  if started ~= 'none' and started ~= 'zset' then return nil end
  if settings == 'hash' then return 'empty' end
  return settings == 'none' and 'no-heavyqueue' or nil
end

-- Whether all jobs of a queue stand in its list and nothing but its settings bounds their starts: most need no closer look.
function L.bare(q)
  return call('EXISTS', K.suspended, K.pause(q), K.levels(q), K.delayed(q), K.registry('scheduled', q), K.trouble(q),
    K.rate(q), K.hold(q), K.breaker(q), K.lanes(q), K.heads(q), K.ring(q), K.slots(q), K.full(q), K.keyed(q), K.keyof(q),
    K.lane_list(q)) == 0
end

local function shut(q, set, install)
  local wrong = L.wrong(K.pause(q), 'hash')
  if wrong then return nil, wrong end
  if L.type(K.pause(q)) ~= 'none' or (set and set.spec.paused == true) then return 'paused' end
  if call('EXISTS', K.suspended) == 1 then return 'suspended' end
  if not set or set.install ~= install then return 'no-heavyqueue' end
  wrong = L.wrong(K.queue(q), 'list', K.levels(q), 'zset', K.started(q), 'zset', K.delayed(q), 'zset',
    K.registry('scheduled', q), 'zset', K.queues, 'set', K.rate(q), 'zset') or L.wrong_keys(q)
  if wrong then return nil, wrong end
  for _, p in ipairs(L.levels(q)) do wrong = wrong or L.wrong(K.level(q, p), 'list') end
  return nil, wrong
end
local function shut_bare(q, set, install)
  if set and set.spec.paused == true then return 'paused' end
  if not set or set.install ~= install then return 'no-heavyqueue' end
  return nil, L.wrong(K.queue(q), 'list', K.started(q), 'zset', K.queues, 'set')
end

-- Why an install takes nothing of a queue now, or nil and what is corrupt of it; nil, nil = go on. `plain` = as of L.bare.
function L.shut(q, set, install, plain) return (plain and shut_bare or shut)(q, set, install) end
