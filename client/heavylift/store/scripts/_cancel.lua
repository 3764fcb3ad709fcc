-- How a job is cancelled: shared by `cancel` and `fire`. Returns {verdict, message} as of cancel.lua.
--   by = request JSON {"by":..., "reason":...}; e = {class, body} of the end of a job that still waits.
function L.cancel(job, by, e)
  local h, why, message = L.load(job)
  if not h then return { why, message } end
  local state, q = L.STATES[h.status or ''], h.origin
  if not state or not q then return { 'corrupt', 'the job has no known status or no origin' } end
  if state == 'cancelled' and not h['hl:exec'] then return { 'already', 'it is cancelled' } end
  if state == 'completed' or state == 'failed' then return { 'refused', 'too late: it is ' .. state } end
  local request = '{"at":' .. L.int(NOW) .. ',' .. string.sub(by, 2)
  if h['hl:exec'] and (state == 'active' or state == 'cancelled') then
    if not h['hl:cancel'] then
      call('HSET', K.job(job), 'hl:cancel', request)
      L.emit(q, 'cancel-requested', job, 'execution', h['hl:exec'])
    end
    call('PUBLISH', K.wake, job)
    return { 'cancelled', 'its pod is being stopped' }
  end
  if state == 'active' then return { 'refused', 'it runs on a worker that is not of Heavylift' } end
  if h['hl:exec'] then L.forget(q, job, h['hl:exec'], h['hl:worker'], h['hl:install']) end -- it was queued while it ran
  L.finish(q, job, h, { state = 'cancelled', body = e.body, class = e.class, execution = '',
    seq = L.num(h['hl:seq'], 0), attempt = L.num(h['hl:attempts'], 0) + 1, fields = { 'hl:cancel', request } })
  L.displace(q, job, h)
  return { 'applied', '' }
end
