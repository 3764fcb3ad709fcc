-- A lock that only saves double work: taken, renewed by its holder, or dropped (ttl 0).
-- ARGV: prefix, prefix, ttl ms, holder, whose keys 'rq' | 'ours', names without prefix...
-- Returns: 1 when the holder has all of them (or dropped them), else 0.
local ttl, holder, all = tonumber(ARGV[3]), ARGV[4], 1
for i = 6, #ARGV do
  local key = (ARGV[5] == 'rq' and RQ or US) .. ':' .. ARGV[i]
  local have = L.type(key)
  local mine = have == 'string' and call('GET', key) == holder
  if ttl == 0 then
    if mine then call('DEL', key) end
  elseif mine or have == 'none' then
    call('SET', key, holder, 'PX', ttl)
  else
    all = 0
  end
end
return all
