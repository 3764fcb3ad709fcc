-- Jobs of one queue by state.
-- ARGV: prefix, prefix, queue.
-- Returns: JSON {waiting, delayed, active, children, completed, failed, cancelled, quarantined, oldest (ms or -1)}.
-- With: _gauges.lua
return cjson.encode(L.counts(ARGV[3]))
