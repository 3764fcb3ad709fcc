-- What a claim resolves for an attempt and freezes: explicit > settings > built-in.
-- When (ms) all attempts of a job must be over, counted from its first claim; nil without such a limit.
function L.total_due(h, options, set)
  local function some(value) return L.number(value) and value > 0 and value or nil end -- else render refuses it
  local total = some(L.table(options.timeouts).total) or some(L.table(set.spec.timeouts).total)
  return total and L.num(h['hl:first'], NOW) + total or nil
end

local frozen_before, options_before = {}, {}
function L.options_of(h)
  local text = h['hl:options']
  if not text then return {} end
  if options_before[text] == nil then options_before[text] = L.object(text) or false end
  return options_before[text] or nil
end

function L.freeze(h, options, set)
  local like = table.concat({ h['hl:options'] or '', h.timeout or '', h['hl:rqmax'] or '', h['hl:first'] or '' }, '\n')
  local before = frozen_before[set] or {}
  frozen_before[set] = before
  if before[like] then return before[like] end
  local spec = set.spec
  local defaults, times, payload = L.table(spec.defaults), L.table(spec.timeouts), L.table(spec.payload)
  local own = L.table(options.timeouts)
  local timeout = L.num(h.timeout, -1)
  local asked = (timeout > 0 and timeout ~= 180) and timeout * 1000 or nil
  local frozen = {
    maxAttempts = L.number(options.maxAttempts) or L.num(h['hl:rqmax'], nil) or L.number(defaults.maxAttempts) or 1,
    timeouts = { pending = L.number(own.pending) or L.number(times.pending) or 3600000,
      run = L.number(own.run) or asked or L.number(times.run) or 86400000 },
    payload = { format = type(payload.format) == 'string' and payload.format or 'JSON',
      maxSize = L.number(payload.maxSize) or 65536 },
    generation = set.generation, container = type(spec.container) == 'string' and spec.container or cjson.null,
    totalDue = L.total_due(h, options, set),
  }
  before[like] = cjson.encode(frozen)
  return before[like]
end
