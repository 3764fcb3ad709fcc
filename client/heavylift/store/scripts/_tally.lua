-- Histograms that outlive the processes: counts by upper bound (ms) in the queue's counters, read at each scrape.
--   <name>:<bound or inf>[:<task>] = how many were at most that long and longer than the bound before
--   <name>:sum[:<task>] = their milliseconds
L.BOUNDS = {
  10, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 900000, 3600000, 14400000, 86400000,
}
function L.tally(q, name, ms, task)
  local bound, tail = 'inf', task and ':' .. task or ''
  for _, most in ipairs(L.BOUNDS) do
    if ms <= most then
      bound = L.int(most)
      break
    end
  end
  L.count(q, name .. ':' .. bound .. tail)
  if ms > 0 then L.count(q, name .. ':sum' .. tail, L.int(ms)) end
end

-- The task, if the queue's settings want its figures apart.
function L.watched(set, task)
  for _, name in ipairs(L.table(L.table(set.spec.metrics).tasks)) do
    if task and name == task then return task end
  end
  return nil
end
