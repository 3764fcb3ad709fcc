-- The operator writes a queue's settings: missing or older ones only; never over another install's or namespace's.
-- ARGV: prefix, prefix, queue, settings JSON, generation, install, namespace, uid.
-- Returns: {verdict, message}.
local q, key = ARGV[3], K.settings(ARGV[3])
local wrong = L.wrong(key, 'hash', K.queues, 'set')
if wrong then return { 'corrupt', wrong } end
local old = call('HMGET', key, 'install', 'namespace', 'uid', 'generation', 'json', 'kept')
local kept = L.kept(L.table(L.object(ARGV[4])), ARGV[5])
if old[1] and (old[1] ~= ARGV[6] or old[2] ~= ARGV[7]) then
  return { 'refused', 'the queue ' .. q .. ' is owned by install ' .. old[1] .. ', namespace ' .. (old[2] or '?') }
end
if old[3] == ARGV[8] and L.num(old[4], 0) > tonumber(ARGV[5]) then return { 'already', 'a newer generation stands' } end
if old[3] == ARGV[8] and old[4] == ARGV[5] and old[5] == ARGV[4] and old[6] == kept then return { 'already', '' } end
call('HSET', key, 'json', ARGV[4], 'generation', ARGV[5], 'install', ARGV[6], 'namespace', ARGV[7], 'uid', ARGV[8],
  'at', L.int(NOW), 'kept', kept)
L.breaker_close(q) -- the template may be mended
call('SADD', K.queues, K.queue(q))
try('SADD', K.installs, ARGV[6])
call('PUBLISH', K.doorbell, q)
return { 'applied', '' }
