-- Histograms that outlive the processes: counts by upper bound (ms) in the queue's counters, read at each scrape.
--   <name>:<bound or inf>[:<task>] = how many were at most that long and longer than the bound before
--   <name>:sum[:<task>] = their milliseconds
L.BOUNDS = {
  10, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 900000, 3600000, 14400000, 86400000,
}
function L.tally(q, name, ms, task, n)
  local bound, tail = 'inf', task and ':' .. task or ''
  for _, most in ipairs(L.BOUNDS) do
    if ms <= most then
      bound = L.int(most)
      break
    end
  end
  L.count(q, name .. ':' .. bound .. tail, n)
  if ms > 0 then L.count(q, name .. ':sum' .. tail, L.int(ms * (n or 1))) end
end

-- Waits of one call are counted together: those of one length at once.
local waits = {}
function L.waited(q, ms, task)
  waits[q] = waits[q] or {}
  local of = waits[q][task or ''] or {}
  waits[q][task or ''], of[ms] = of, (of[ms] or 0) + 1
end
function L.tally_waits()
  for q, tasks in pairs(waits) do
    for task, of in pairs(tasks) do
      for ms, n in pairs(of) do L.tally(q, 'wait', ms, task ~= '' and task or nil, n) end
    end
  end
end

-- The job's task, if the queue's settings want its figures apart; of plain RQ, the path its description begins with.
function L.watched(set, job, task)
  local apart = L.table(L.table(set.spec.metrics).tasks)
  if #apart == 0 then return nil end
  if not task then
    task = string.match(string.sub(call('HGET', K.job(job), 'description') or '', 1, 300), '^([%w_.]+)%(')
  end
  for _, name in ipairs(apart) do
    if name == task then return task end
  end
  return nil
end
