-- The rate limit: at most `limit` starts in any window of `period` ms. A start is a claim, retries included; one that is
-- given back before it had a Job does not count. The starts themselves are kept (zset `job:execution` -> ms), those that
-- have left the window go, some with each claim; without any for a whole period the key expires.

-- Opened when first used.
-- Starts left now and, when there is none, ms until there is one; nil without a limit.
function L.rate(q, set)
  local own = L.table(set.spec.rateLimit)
  local most, period = L.number(own.limit), L.number(own.period)
  if not (most and period) then return nil end
  local zset = K.rate(q)
  local used = try('ZCOUNT', zset, '(' .. L.int(NOW - period), '+inf')
  if type(used) ~= 'number' then return 0, period end -- a wrong type must never mean "no limit"
  if used < most then return most - used, nil end
  local nth = call('ZRANGE', zset, -most, -most, 'WITHSCORES')
  return 0, max(min(tonumber(nth[2]), NOW) + period - NOW, 1)
end

-- What left the window goes, a bounded number; before the starts of one claim.
function L.rate_trim(q, set)
  local period = L.number(L.table(set.spec.rateLimit).period)
  if not period then return end
  local zset = K.rate(q)
  for _, ahead in ipairs(call('ZRANGEBYSCORE', zset, '(' .. L.int(NOW), '+inf', 'LIMIT', 0, 10)) do
    call('ZADD', zset, L.int(NOW), ahead) -- the clock was set back
  end
  local left = call('ZRANGEBYSCORE', zset, '-inf', L.int(NOW - period), 'LIMIT', 0, 40)
  if #left > 0 then call('ZREM', zset, unpack(left)) end
end

-- The starts of one claim (ms, member, ms, member, ...): they are kept for one window.
function L.rate_spend(q, set, starts)
  local period = L.number(L.table(set.spec.rateLimit).period)
  if not period then return end
  call('ZADD', K.rate(q), unpack(starts))
  call('PEXPIRE', K.rate(q), L.int(period))
end

function L.rate_return(q, member) try('ZREM', K.rate(q), member) end
