-- When a job is due that RQ's client scheduled: only its registry says so.
function L.rq_due(job, h)
  if h.status ~= 'scheduled' or h['hl:due'] or not h.origin then return end
  local score = try('ZSCORE', K.registry('scheduled', h.origin), job)
  local at = type(score) == 'string' and L.number(tonumber(score))
  if at and at >= 0 and at < 1e11 then h['hl:due'] = L.int(at * 1000) end
end
