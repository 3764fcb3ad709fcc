-- What holds back the jobs of one concurrency key.
-- ARGV: prefix, prefix, queue, key.
-- Returns: {executions running, jobs waiting by their key, most at once or -1, '1' when keys take turns}.
local q, key = ARGV[3], ARGV[4]
local rule = L.rule(q)
return { L.running(q, key), L.lane_length(q, key), rule.per or -1, rule.fair and '1' or '0' }
