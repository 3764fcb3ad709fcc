-- A page of a queue's ended jobs, newest first, of one outcome class and not older than a time.
-- ARGV: prefix, prefix, queue, state, class or '' for any, since ms, start, count.
-- Returns: {ids looked at, '1' = more may follow | '0', job, {field, value, ...}, ...}.
local q, state, class, since, from, count = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local index = K.ended(q, state)
if L.type(index) ~= 'zset' then return { 0, '0' } end
local ids = call('ZREVRANGEBYSCORE', index, '+inf', L.int(since), 'LIMIT', from, count)
local out = { #ids, #ids == count and '1' or '0' }
for _, id in ipairs(ids) do
  local head = class ~= '' and L.load(id, { 'hl:outcome' })
  if class == '' or (head and string.match(head['hl:outcome'] or '', '"class":"([%l-]+)"') == class) then
    local h = L.load(id)
    if h and L.STATES[h.status or ''] == state then
      out[#out + 1] = id
      out[#out + 1] = L.flat(h)
    end
  end
end
return out
