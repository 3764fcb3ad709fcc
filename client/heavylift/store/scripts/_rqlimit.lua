-- The rate limit of RQ's client (`rate_limit=`), which parks jobs outside of every queue until one of their key ends.
-- Opened when first used.
-- The place of an ended job goes to the next that is parked, as RQ's worker would have it. No more than 20 at once: each
-- that ends makes room for others.
function L.rq_unpark(job)
  local name = try('HGET', K.job(job), 'rate_limit_key')
  if type(name) ~= 'string' or name == '' or #name > 512 then return end
  local limit = K.rq_limit(name)
  local allowed, parked = limit .. ':allowed', limit .. ':rate_limited'
  if L.wrong(limit, 'hash', allowed, 'zset', parked, 'zset', K.queues, 'set') then return end
  call('ZREM', allowed, job)
  local most = L.num(call('HGET', limit, 'concurrency'), 0)
  for _ = 1, 20 do
    local following = call('ZCARD', allowed) < most and call('ZRANGE', parked, 0, 0)[1]
    if not following then return end
    local h = L.load(following, { 'origin', 'status', 'enqueue_at_front' })
    if h and h.origin and h.status == 'rate_limited' then
      local list = K.queue(h.origin)
      if L.wrong(list, 'list') then return end
      call('HSET', K.job(following), 'status', 'queued', 'enqueued_at', L.utc_now())
      call('ZADD', allowed, NOW_S, following)
      call('SADD', K.queues, list)
      call(h.enqueue_at_front == '1' and 'LPUSH' or 'RPUSH', list, following)
      call('PUBLISH', K.doorbell, h.origin)
    end
    call('ZREM', parked, following)
  end
end
