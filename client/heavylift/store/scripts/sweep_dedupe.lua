-- One bounded step of a sweep over a queue's deduplication keys: what no live job holds is freed, a follower goes on.
-- ARGV: prefix, prefix, queue, keys...
-- Returns: how many were stale; a throttle whose time is over is removed and not counted.
local q, stale = ARGV[3], 0
if L.type(K.dedup(q)) ~= 'hash' then return 0 end
for i = 4, #ARGV do
  if L.dedup_mend(q, ARGV[i]) then stale = stale + 1 end
end
if stale > 0 then
  L.count(q, 'repaired:dedupe', stale)
  L.emit(q, 'repaired', '', 'case', 'dedupe', 'count', L.int(stale))
end
return stale
