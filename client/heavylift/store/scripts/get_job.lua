-- One job.
-- ARGV: prefix, prefix, job, look for its position '1'|'0'.
-- Returns: {'ok' | 'missing' | 'corrupt', message, {field, value, ...}, position or -1}.
-- With: _rqdue.lua
local h, why, message = L.load(ARGV[3])
if not h then return { why, message, {}, -1 } end
local position = -1
if ARGV[4] == '1' and h.status == 'queued' and h.origin then
  local q = h.origin
  local function place(p) -- behind those of its own level, and those of sooner ones: at most 1000, for time's sake
    local at = try('LPOS', K.level(q, p), ARGV[3], 'MAXLEN', 1000)
    if type(at) ~= 'number' then return nil end
    local function add(level)
      local depth = try('LLEN', K.level(q, level))
      at = at + (type(depth) == 'number' and depth or 0)
    end
    if p > 0 then add(0) end
    local levels = try('ZRANGEBYSCORE', K.levels(q), '-inf', '(' .. p, 'LIMIT', 0, 1000)
    for _, text in ipairs(levels.err and {} or levels) do
      local level = L.num(text, 0)
      if level ~= 0 and level >= -1000 and level <= 1000 then add(level) end
    end
    return at
  end
  local own = L.priority(h)
  position = place(own) or L.lane_position(q, ARGV[3], h) or (own ~= 0 and place(0)) or -1 -- RQ knows one list
end
L.rq_due(ARGV[3], h)
return { 'ok', '', L.flat(h), position }
