-- A HeavyQueue is gone: its settings go, if they are of this uid.
-- ARGV: prefix, prefix, queue, uid.
-- Returns: {verdict, message}.
local key = K.settings(ARGV[3])
local wrong = L.wrong(key, 'hash')
if wrong then return { 'corrupt', wrong } end
local uid = call('HGET', key, 'uid')
if not uid then return { 'already', '' } end
if uid ~= ARGV[4] then return { 'refused', 'the settings are of uid ' .. uid } end
call('DEL', key)
try('DEL', K.breaker(ARGV[3]))
return { 'applied', '' }
