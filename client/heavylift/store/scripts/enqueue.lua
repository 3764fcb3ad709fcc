-- Accept jobs: each entry all or nothing, independent of the others. Repeating it (same incarnation) changes nothing.
-- ARGV: prefix, prefix, then entries as L.entry reads them (_accept.lua).
-- Returns: per entry its state when it was created, else {id, '0', state, error | '', message}; the id is that of the
--   job there when it was deduplicated.
-- With: _accept.lua
local entries = {}
local counted = {} -- written together at the end
function L.count(q, name, n)
  local key = K.counters(q)
  local of = counted[key] or {}
  of[name], counted[key] = (of[name] or 0) + (n or 1), of
end
local last, i = #ARGV, 3
while i <= last do entries[#entries + 1], i = L.entry(i) end
local replies = L.accept_all(entries)
for key, names in pairs(counted) do
  for name, n in pairs(names) do try('HINCRBY', key, name, n) end
end
return replies
