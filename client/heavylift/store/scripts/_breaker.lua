-- The breaker of a queue whose image cannot be pulled: outcomes of class `image` in a row, none having started in between,
-- open it; claims then take nothing but one probe after each pause, which doubles from the queue's backoff on to its
-- longest. The first pod that starts closes it, and so does an edited HeavyQueue.
--   breaker  hash: failures in a row; while open: next (ms: no probe before), pause (ms), probe (`job:execution`)
-- Opened when first used.
L.IMAGE_TROUBLE = 'ImagePullFailing'

-- While it is open {wait = ms until a probe may go, probing = one is on its way}; else nil.
function L.breaker(q)
  if L.type(K.breaker(q)) ~= 'hash' then return nil end
  local found = call('HMGET', K.breaker(q), 'next', 'probe')
  local next_ = L.num(found[1], nil)
  if not next_ then return nil end
  local probing = found[2] and type(try('ZSCORE', K.started(q), found[2])) == 'string'
  return { wait = max(next_ - NOW, 0), probing = probing and true or false }
end

function L.breaker_probe(q, member) try('HSET', K.breaker(q), 'probe', member) end

function L.breaker_close(q)
  if call('EXISTS', K.breaker(q), K.trouble(q)) == 0 then return end
  try('HDEL', K.trouble(q), L.IMAGE_TROUBLE)
  local open = L.breaker(q)
  try('DEL', K.breaker(q))
  if open then
    L.emit(q, 'breaker-closed', '')
    try('PUBLISH', K.doorbell, q)
  end
end

local function failed(q, member, message)
  local key = K.breaker(q)
  if L.wrong(key, 'hash') then try('DEL', key) end
  local found = call('HMGET', key, 'failures', 'next', 'pause', 'probe')
  if found[2] and found[4] ~= member then return end -- claimed before it opened: it tells nothing new
  local spec = (L.settings(q) or { spec = {} }).spec
  local failures, backoff = L.num(found[1], 0) + 1, L.table(L.table(spec.defaults).backoff)
  call('HSET', key, 'failures', L.int(failures))
  if failures < (L.number(L.table(spec.breaker).consecutiveFailures) or 3) then return end
  local first, longest = max(L.number(backoff.delay) or 60000, 1000), max(L.number(backoff.max) or 3600000, 1000)
  local pause = min(found[2] and L.num(found[3], first) * 2 or first, longest)
  call('HSET', key, 'next', L.int(NOW + pause), 'pause', L.int(pause))
  call('HDEL', key, 'probe')
  L.trouble(q, L.IMAGE_TROUBLE, message)
  if not found[2] then L.emit(q, 'breaker-opened', '', 'reason', string.sub(message, 1, 500), 'ms', L.int(pause)) end
end

-- An attempt ended: `started` = its container had started.
function L.breaker_ended(q, class, started, member, message)
  if class == 'image' then
    failed(q, member, message)
  elseif started then
    L.breaker_close(q)
  end
end
