-- Accept jobs: each entry all or nothing, independent of the others. Repeating it (same incarnation) changes nothing.
-- ARGV: prefix, prefix, then per entry what L.entry reads (_accept.lua).
-- Returns: per entry its state when it was created, else {id, '0', state, error | '', message}; the id is that of the
--   job there when it was deduplicated.
-- With: _accept.lua
local entries, replies, i = {}, {}, 3
local counted = {} -- written together at the end
function L.count(q, name, n)
  local key = K.counters(q)
  local of = counted[key] or {}
  of[name], counted[key] = (of[name] or 0) + (n or 1), of
end
while i <= #ARGV do entries[#entries + 1], i = L.entry(i) end
for n, reply in ipairs(L.accept_all(entries)) do replies[n] = reply[2] == '1' and reply[3] or reply end
for key, names in pairs(counted) do
  for name, n in pairs(names) do try('HINCRBY', key, name, n) end
end
return replies
