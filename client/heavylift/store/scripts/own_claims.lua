-- Claims of this worker without a recorded Job, newest first, at most 500 of the last ten minutes.
-- ARGV: prefix, prefix, install, worker, stored bytes allowed.
-- Returns: a list of claims as L.claim makes them.
local out = {}
if L.type(K.inflight(ARGV[3])) ~= 'zset' then return out end
local members = call('ZREVRANGEBYSCORE', K.inflight(ARGV[3]), '+inf', L.int(NOW - 600000), 'LIMIT', 0, 500)
for _, member in ipairs(members) do
  local job, execution = string.match(member, '^([^:]+):(.+)$')
  local h = job and L.load(job)
  if h and h['hl:exec'] == execution and h['hl:worker'] == ARGV[4] and not h['hl:uid'] and h.origin then
    local data = call('HSTRLEN', K.job(job), 'data') <= tonumber(ARGV[5]) and call('HGET', K.job(job), 'data')
    out[#out + 1] = L.claim(h.origin, job, h, data or '')
  end
end
return out
