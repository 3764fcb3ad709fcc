-- One job.
-- ARGV: prefix, prefix, job, look for its position '1'|'0'.
-- Returns: {'ok' | 'missing' | 'corrupt', message, {field, value, ...}, position or -1}.
-- With: _serve.lua, _rqdue.lua
local h, why, message = L.load(ARGV[3])
if not h then return { why, message, {}, -1 } end
local position = -1
if ARGV[4] == '1' and h.status == 'queued' and h.origin then
  local q = h.origin
  local function ask(command, p, ...) return L.type(K.level(q, p)) == 'list' and call(command, K.level(q, p), ...) or nil end
  local function place(p) -- those of its own level, and of all that are sooner
    local at = ask('LPOS', p, ARGV[3], 'MAXLEN', 1000)
    for _, sooner in ipairs(at and L.levels(q, L.LEVELS_MAX) or {}) do
      if sooner >= p then break end
      at = at + (ask('LLEN', sooner) or 0)
    end
    return at
  end
  local own = L.priority(h)
  position = place(own) or L.lane_position(q, ARGV[3], h) or (own ~= 0 and place(0)) or -1 -- RQ knows one list
end
L.rq_due(ARGV[3], h)
return { 'ok', '', L.flat(h), position }
