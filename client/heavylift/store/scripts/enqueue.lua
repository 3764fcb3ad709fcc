-- Accept jobs: each entry all or nothing, independent of the others. Repeating it (same incarnation) changes nothing.
-- ARGV: prefix, prefix, then per entry: queue, id, task, data, incarnation, if_exists, fingerprint, delay ms,
--   expires ms or '', options JSON, description, traceparent, strict '1'|'0', priority, number of dependencies, ids...
-- Returns: per entry {id, '1' created | '0', state, error | '', message}.
-- With: _accept.lua
local replies, i, e = {}, 3, nil
while i <= #ARGV do
  e, i = L.entry(i)
  replies[#replies + 1] = L.accept(e)
end
return replies
