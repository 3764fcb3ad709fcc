-- queue.resume(): the client's pause ends; spec.paused is the HeavyQueue's own.
-- ARGV: prefix, prefix, queue.
-- Returns: {verdict, message}.
local gone = call('DEL', K.pause(ARGV[3]))
if gone == 0 then return { 'already', '' } end
L.emit(ARGV[3], 'resumed', '')
call('PUBLISH', K.doorbell, ARGV[3])
return { 'applied', '' }
