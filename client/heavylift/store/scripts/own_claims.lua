-- Claims of this worker without a recorded Job, newest first, at most 500 of the last ten minutes.
-- ARGV: prefix, prefix, install, worker, stored bytes allowed.
-- Returns: a list of claims as L.claim makes them.
local out = {}
if L.type(K.inflight(ARGV[3])) ~= 'zset' then return out end
local members = call('ZREVRANGEBYSCORE', K.inflight(ARGV[3]), '+inf', L.int(NOW - 600000), 'LIMIT', 0, 500)
for _, member in ipairs(members) do
  local job, execution = string.match(member, '^([^:]+):(.+)$')
  local h = job and L.load(job)
  -- One of which something is missing or cannot be read is not resumed: it goes back at its claim's deadline.
  local whole = h and h.origin and h['hl:ns'] and h['hl:inc'] and h['hl:seq'] and h['hl:claimed'] and h['hl:deadline']
  if whole and h['hl:exec'] == execution and h['hl:worker'] == ARGV[4] and not h['hl:uid'] then
    local data = call('HSTRLEN', K.job(job), 'data') <= tonumber(ARGV[5]) and call('HGET', K.job(job), 'data')
    out[#out + 1] = L.claim(h.origin, job, h, data or '')
  end
end
return out
