-- What a person changes of a job: shared by `change` and `retry`.
-- Fields to set for another priority (nil = keep) and other data ('' = keep), or nil and why that cannot be.
function L.changed(h, priority, data, fingerprint)
  local set = {}
  if priority then
    set[1], set[2] = 'hl:priority', L.int(priority)
  end
  if data == '' then return set end
  if not h['hl:task'] then return nil, 'it is a job of plain RQ: its data cannot be changed' end
  for _, value in ipairs({ 'data', data, 'hl:fp', fingerprint, 'hl:checkpoint', '' }) do -- it was of the other data
    set[#set + 1] = value
  end
  return set
end

-- A delayed job waits from now on.
function L.soon(q, job, h, event)
  call('HSET', K.job(job), 'status', 'queued', 'enqueued_at', L.utc_now())
  call('HDEL', K.job(job), 'hl:due')
  h.status, h.enqueued_at = 'queued', L.utc_now()
  L.place(q, job, h, false, nil)
  try('ZREM', K.delayed(q), job)
  try('ZREM', K.registry('scheduled', q), job)
  L.count(q, event)
  L.emit(q, event, job)
end
