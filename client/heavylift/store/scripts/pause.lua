-- queue.pause(): the first holder stands until resume.
-- ARGV: prefix, prefix, queue, by, reason.
-- Returns: {verdict, message}.
local key = K.pause(ARGV[3])
local wrong = L.wrong(key, 'hash')
if wrong then return { 'corrupt', wrong } end
if call('EXISTS', key) == 1 then return { 'already', '' } end
call('HSET', key, 'by', ARGV[4], 'reason', ARGV[5], 'at', L.int(NOW))
L.emit(ARGV[3], 'paused', '', 'worker', ARGV[4], 'reason', ARGV[5])
return { 'applied', '' }
