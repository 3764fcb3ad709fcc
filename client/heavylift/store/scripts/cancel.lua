-- Cancel a job: at once while it waits, by request while it is active.
-- ARGV: prefix, prefix, job, request JSON {"by":..., "reason":...}, end JSON {class, body, exc}.
-- Returns: {verdict, message}: applied | cancelled (requested) | already | refused (too late) | missing | corrupt.
-- With: _cancel.lua
return L.cancel(ARGV[3], ARGV[4], cjson.decode(ARGV[5]))
