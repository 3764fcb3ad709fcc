-- One bounded step of a sweep over a queue's jobs that wait for others: those that no end will let go any more. Where all
-- dependencies are met the job waits, as it should have. Where they are over and one is gone, which let nobody go, so
-- never completed, it ends as cancelled: nothing that could still complete is left.
-- ARGV: prefix, prefix, queue, where to go on (0 begins), step, end JSON {class, body}: `<job>` in the body becomes the id
--   of the dependency that is gone.
-- Returns: {where to go on, or -1 = done, how many were mended}.
local q, from, step, e = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), cjson.decode(ARGV[6])
local left = { ends = 10, dependencies = 500 } -- what one call does at most, so that it does not hold Redis for long
local registry = K.registry('deferred', q)
if L.type(registry) ~= 'zset' then return { -1, 0 } end
local FIELDS = { 'hl:reason', 'hl:exec', 'hl:dedup', 'dependency_ids' }
for _, name in ipairs(L.DEPENDENT) do FIELDS[#FIELDS + 1] = name end

-- The ids a job depends on, or nil where there are too many to look at.
local function dependencies(job, h)
  local key = K.dependencies(job)
  if L.type(key) == 'set' then
    if call('SCARD', key) > 500 then return nil end
    return call('SMEMBERS', key)
  end
  local found = {} -- RQ took the set away; what it stored with the job remains
  for i, id in ipairs(L.object(h.dependency_ids) or {}) do
    if i > 500 then return nil end
    if type(id) == 'string' then found[#found + 1] = id end
  end
  return found
end

-- What a job waits for: 'others', 'nothing', or the id of a dependency that is gone.
local function standing(job, h)
  local ids, gone = dependencies(job, h), nil
  if not ids or #ids == 0 then return 'others' end
  left.dependencies = left.dependencies - #ids
  for _, id in ipairs(ids) do
    local status = try('HGET', K.job(id), 'status')
    if type(status) == 'string' then
      if status ~= 'finished' and not (status == 'failed' and h.allow_dependency_failures == '1') then return 'others' end
    elseif L.type(K.todo) == 'set' and call('SISMEMBER', K.todo, id) == 1 then
      return 'others' -- it completed, and claims still let its dependents go
    elseif L.type(K.job(id)) == 'none' then
      gone = id
    else
      return 'others'
    end
  end
  return gone and 'gone' or 'nothing', gone
end

local function cancel(job, id)
  local h = L.load(job)
  local name = #id <= 200 and string.match(id, '^[%w_-]+$') or '?'
  local body = string.gsub(e.body, '<job>', name)
  left.ends = left.ends - 1
  L.finish(q, job, h, { state = 'cancelled', body = body, class = e.class, execution = '', seq = L.num(h['hl:seq'], 0),
    attempt = L.num(h['hl:attempts'], 0) + 1 })
  call('ZREM', registry, job)
end

-- Whether it waits for the holder of its deduplication key, whose sweep sees to it. The reason alone does not say so:
-- RQ's client may have enqueued another job over one that did.
local function follows(job, h)
  if string.sub(h['hl:reason'] or '', 1, 8) ~= 'follows ' or not h['hl:dedup'] then return false end
  if L.wrong(K.dedup(q), 'hash') then return true end
  local entry = L.dedup_read(q, h['hl:dedup'])
  return entry and (entry.job == job or entry.follower == job)
end

local looked, removed, mended = 0, 0, 0
local function look(job)
  local h, why = L.load(job, FIELDS)
  if why == 'missing' then
    call('ZREM', registry, job)
    L.drop(q, job, 'it waited for others, and its job is gone')
    removed, mended = removed + 1, mended + 1
  end
  if not h or h.status ~= 'deferred' or (h.origin or q) ~= q or h['hl:exec'] or follows(job, h) then return end
  local what, id = standing(job, h)
  if what == 'others' or (what == 'nothing' and L.unfit(q, h)) then return end
  if what == 'nothing' then L.undefer(q, job, h) else cancel(job, id) end
  removed, mended = removed + 1, mended + 1
end

local page = call('ZRANGE', registry, from, from + step - 1)
for _, job in ipairs(page) do
  if left.ends <= 0 or left.dependencies <= 0 then break end
  look(job)
  looked = looked + 1
end
if mended > 0 then
  L.count(q, 'repaired:dependents', mended)
  L.emit(q, 'repaired', '', 'case', 'dependents', 'count', L.int(mended))
end
return { (looked < #page or #page == step) and from + looked - removed or -1, mended }
