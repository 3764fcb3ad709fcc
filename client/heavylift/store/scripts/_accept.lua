-- How a job is accepted: shared by `enqueue` and `fire`.
local cut, sha1 = string.sub, redis.sha1hex
local function refuse(e, code, message, state) return { e.id, '0', state or 'failed', code, message } end

local function conflicts(e, h)
  if h.origin ~= e.queue then return 'the id ' .. e.id .. ' belongs to another queue, ' .. (h.origin or '?') end
  local same = h['hl:fp'] == e.fingerprint
  if not h['hl:fp'] then -- its id was random
    same = h['hl:task'] == e.task and call('HGET', K.job(e.id), 'data') == e.data
  end
  return not same and 'the id ' .. e.id .. ' was enqueued with another task or other data' or nil
end

-- Ids of dependencies that keep the job from waiting, as RQ counts: one that is gone is met.
local function unmet(e)
  for _, id in ipairs(e.depends) do
    local status = try('HGET', K.job(id), 'status')
    if type(status) == 'string' and status ~= 'finished' then return true end
  end
  return false
end

-- What one call looks at once for all its entries, by queue: {level = {[priority] = its list fits}, open = {[priority] = a
-- job more may have it}, used = {[priority] = it is known to be in use}, keyed = its keys' indexes fit, served, announced, apart =
-- jobs with keys wait in lanes}.
local known = {}
local begun = false -- whether this call saw to the epoch

-- New jobs go to their places together, those of one place in their order: ids by list and command, entries with keys by
-- queue, and deduplication keys with their entries by queue. Whatever looks at those places settles first.
local listed, keyed, held = {}, {}, {}
-- What L.accept_all saw: no entry's job is there but those `written` since, and these deduplication keys are free.
local fresh, written, free = false, {}, {}
local function settle()
  for list, of in pairs(listed) do
    for push, ids in pairs(of) do call(push, list, unpack(ids)) end
  end
  for q, puts in pairs(keyed) do L.lanes_put(q, puts) end
  for q, entries in pairs(held) do call('HSET', K.dedup(q), unpack(entries)) end
  listed, keyed, held = {}, {}, {}
end

local function put(e)
  local q, p = e.queue, e.priority
  local of = known[q]
  if not of.announced then L.announce(q) end
  of.announced = true
  if e.key ~= '' and of.apart == nil then of.apart = L.rule(q).apart end
  if e.key ~= '' and of.apart and L.usable_key(e.key) then
    local puts = keyed[q] or {}
    puts[#puts + 1], keyed[q], e.turn = e, puts, L.next_put()
    return
  end
  local list = K.level(q, p)
  if p ~= 0 and not of.used[p] then
    L.use_level(q, p)
    of.used[p], of.open = true, {}
  end
  listed[list] = listed[list] or {}
  local push = e.lifo and 'LPUSH' or 'RPUSH'
  local ids = listed[list][push] or {}
  ids[#ids + 1], listed[list][push] = e.id, ids
end

-- The key is the job's from now on, for a throttle until a time.
local function hold(e, q, key)
  local unheld, till = free[q], e.mode == 'first' and e.ttl and NOW + e.ttl or false
  if not (unheld and unheld[key]) then return L.dedup_take(q, key, e.id, till) end
  local entries = held[q] or {}
  local n = #entries
  entries[n + 1], entries[n + 2] = key, till and e.id .. '|' .. L.int(till) or e.id
  held[q], unheld[key] = entries, nil
end

-- The fields of a new job. RQ reads absent ones as empty or zero, and so do we: each costs 60 to 90 bytes. Those that
-- entries of one header share are listed once.
local function shared_fields(e, status, due)
  local created = L.utc_now()
  local set = { 'created_at', created, 'origin', e.queue, 'description', e.description, 'enqueued_at', created, 'status',
    status, 'hl:task', e.task }
  local function add(name, value)
    if not value or value == '' then return end
    set[#set + 1] = name
    set[#set + 1] = value
  end
  add('hl:options', e.options)
  add('hl:due', due and L.int(due))
  add('hl:expires', e.expires and L.int(NOW + e.expires))
  if #e.depends > 0 then
    add('dependency_id', e.depends[1])
    add('dependency_ids', cjson.encode(e.depends))
  end
  return set
end

-- One list for all entries of a header, whose own fields are written behind the shared ones; and how long it is.
local function fields_of(e, status, due)
  local set = e.fields[status]
  if not set then
    set = { 'data', '', unpack(shared_fields(e, status, due)) }
    set.n, e.fields[status] = #set, set
  end
  local n, source = set.n, sha1(e.id .. '\n' .. L.utc_now())
  set[2] = e.data
  if e.fingerprint == '' then
    set[n + 1], set[n + 2], n = 'hl:inc', cut(source, 1, 16), n + 2
  else -- a repeat is told by its incarnation
    set[n + 1], set[n + 2], set[n + 3], set[n + 4] = 'hl:inc', e.incarnation, 'hl:src', source
    set[n + 5], set[n + 6], n = 'hl:fp', e.fingerprint, n + 6
  end
  if e.trace ~= '' then set[n + 1], set[n + 2], n = 'hl:trace', e.trace, n + 2 end
  if e.priority ~= 0 then set[n + 1], set[n + 2], n = 'hl:priority', L.int(e.priority), n + 2 end
  if e.lifo then set[n + 1], set[n + 2], n = 'hl:lifo', '1', n + 2 end
  if e.key ~= '' then set[n + 1], set[n + 2], n = 'hl:key', e.key, n + 2 end
  if e.dedup ~= '' then set[n + 1], set[n + 2], n = 'hl:dedup', e.dedup, n + 2 end
  if e.follows then set[n + 1], set[n + 2], n = 'hl:reason', 'follows ' .. e.follows, n + 2 end
  return set, n
end

local created = {} -- by queue
-- The stream is cut at the first of a call.
local function tell(q, id, state, task)
  local n = created[q] or 0
  created[q] = n + 1
  if n == 0 then return L.emit(q, 'added', id, 'state', state, 'task', task) end
  try('XADD', K.events(q), '*', 'event', 'added', 'job', id, 'at', NOW_MS, 'state', state, 'task', task)
end

local function write(e)
  local q, id, dedup, depends = e.queue, e.id, e.dedup, e.depends
  local deferred = e.follows or (depends[1] and unmet(e))
  local due = e.delay > 0 and NOW + e.delay or nil
  local status = deferred and 'deferred' or due and 'scheduled' or 'queued'
  local set, n = fields_of(e, status, due)
  call('HSET', e.at, unpack(set, 1, n))
  written[id] = true
  if e.follows then
    L.dedup_follow(q, dedup, id)
  elseif dedup ~= '' then
    hold(e, q, dedup)
  end
  if deferred then
    for _, other in ipairs(depends) do
      call('SADD', K.dependents(other), id)
      call('SADD', K.dependencies(id), other)
    end
    call('ZADD', K.registry('deferred', q), NOW_S, id)
    call('SADD', K.queues, K.queue(q))
  elseif due then
    L.place(q, id, {}, false, due)
  else
    put(e)
  end
  if not begun then try('SET', K.epoch, L.int(NOW) .. '-' .. cut(sha1(id), 1, 16), 'NX') end
  begun = true
  local state = L.STATES[status]
  tell(q, id, state, e.task)
  return state
end

-- What is wrong with the keys an entry is written to, or nil; a queue's own are looked at once per call.
local function unfit(e)
  local q, p, wrong = e.queue, e.priority, nil
  if not known[q] then
    wrong = L.wrong(K.levels(q), 'zset', K.delayed(q), 'zset', K.registry('scheduled', q), 'zset', K.queues, 'set',
      K.registry('deferred', q), 'zset', K.dedup(q), 'hash')
    if wrong then return wrong end
    known[q] = { level = {}, open = {}, used = {} }
  end
  local of, depends = known[q], e.depends
  if not of.level[p] then
    wrong = L.wrong(K.level(q, p), 'list')
    of.level[p] = not wrong
  end
  if e.key ~= '' and not of.keyed and not wrong then
    wrong = L.wrong_keys(q)
    of.keyed = not wrong
  end
  if depends[1] then wrong = wrong or L.wrong(K.dependencies(e.id), 'set') end
  for i = 1, #depends do wrong = wrong or L.wrong(K.dependents(depends[i]), 'set') end
  return wrong
end

-- The latest data takes the place of what waits: same job, same place; a debounced one waits anew, in its place (state).
local function renew(e, job, due, state)
  local set = { 'data', e.data, 'hl:task', e.task, 'description', e.description, 'hl:options', e.options == '' and '{}' or e.options,
    'hl:fp', e.fingerprint, 'hl:op', e.incarnation }
  if due then
    set[#set + 1] = 'hl:due'
    set[#set + 1] = L.int(due)
  end
  if e.expires then
    set[#set + 1] = 'hl:expires'
    set[#set + 1] = L.int(NOW + e.expires)
  end
  call('HSET', K.job(job), unpack(set))
  if not e.expires then call('HDEL', K.job(job), 'hl:expires') end
  if due and state == 'delayed' then
    call('ZADD', K.delayed(e.queue), L.int(due), job)
    call('ZADD', K.registry('scheduled', e.queue), L.int(math.ceil(due / 1000)), job)
  end
end

-- Which job's data the entry's replaces under its mode, if any: one that has not started yet.
local function target(e, entry, h)
  local state = L.STATES[h.status or '']
  local fresh = not h['hl:exec'] and L.num(h['hl:seq'], 0) == 0
  if e.mode == 'first' then return nil end
  local next_ = entry.follower and L.load(entry.follower, L.HOLDER) -- it runs last, so the latest data is its
  if next_ and next_.status == 'deferred' and next_['hl:dedup'] == e.dedup then return entry.follower, 'waiting-children' end
  if fresh and (state == 'delayed' or state == 'waiting-children' or (e.mode == 'keep_last' and state == 'waiting')) then
    return entry.job, state
  end
  return nil
end

-- The answer for an entry whose key is held, or nil when it is to be written.
local function deduplicated(e)
  local entry, h = L.dedup_holder(e.queue, e.dedup)
  if not entry or entry.job == e.id then return nil end
  local job, state = target(e, entry, h)
  if job then
    local renewed = L.load(job, { 'hl:op' })
    if not renewed or renewed['hl:op'] ~= e.incarnation then
      renew(e, job, e.mode == 'debounce' and job == entry.job and NOW + e.delay or nil, state)
    end
  elseif e.mode == 'debounce' then -- its last burst is over
    return nil
  elseif e.mode == 'keep_last' then
    e.follows = entry.job
    return nil
  end
  L.count(e.queue, 'deduplicated')
  L.emit(e.queue, 'deduplicated', job or entry.job, 'key', e.dedup, 'task', e.task, 'replaced', job and '1' or '0')
  return { job or entry.job, '0', state or L.STATES[h.status or ''] or 'waiting', '', '' }
end

-- Which settings a queue has: a hash of their text, as ops.read_settings makes it.
local function tag_of(q)
  local text = L.type(K.settings(q)) == 'hash' and call('HGET', K.settings(q), 'json')
  return text and redis.sha1hex(text) or 'none'
end

-- Why nothing new is written for an entry now, or nil. What was accepted before is answered without: a repeat is told of
-- its job, whatever the queue has become.
local function barred(e)
  local open, p = known[e.queue].open, e.priority
  if not open[p] then
    local crowded = L.crowded(e.queue, p)
    if crowded then return refuse(e, 'levels', crowded) end
    open[p] = true
  end
  if e.tag ~= '' and e.tag ~= tag_of(e.queue) then return refuse(e, 'stale', 'the settings of its queue changed') end
  return nil
end

local function again(e, h)
  local state = L.STATES[h.status or ''] or 'waiting'
  local own = h['hl:inc'] == e.incarnation or (e.fingerprint == '' and not h['hl:fp'] and not conflicts(e, h))
  if own then return state end
  if e.if_exists == 'raise' then
    return refuse(e, 'exists', 'a job with the id ' .. e.id .. ' exists already (' .. state .. ')', state)
  end
  local conflict = conflicts(e, h)
  if conflict then return refuse(e, 'conflict', conflict, state) end
  local ended = state == 'completed' or state == 'failed' or state == 'cancelled'
  local function busy()
    return refuse(e, 'conflict', 'the job ' .. e.id .. ' still has a pod: try again once it ended', state)
  end
  if e.if_exists == 'replace' then
    if state == 'active' or h['hl:exec'] then return busy() end -- RQ's own cancel leaves it behind for a moment
    local other = barred(e) or (e.dedup ~= '' and deduplicated(e))
    if other then return other end
    L.displace(e.queue, e.id, h)
    L.remove(e.queue, e.id, ended and state or 'failed', e.dedup)
    try('PERSIST', K.dependents(e.id))
    L.emit(e.queue, 'removed', e.id, 'reason', 'replaced', 'final', ended and '0' or '1')
    return write(e)
  end
  if e.if_exists == 'retry_failed' and (state == 'failed' or state == 'cancelled') then
    if h['hl:exec'] then return busy() end
    local rival = L.dedup_rival(e.queue, h['hl:dedup'], e.id)
    if rival then return refuse(e, 'conflict', 'the job ' .. rival .. ' holds its deduplication key', state) end
    local wrong = L.unfit(e.queue, h) -- of its own priority and key, not the entry's
    if wrong then return refuse(e, 'corrupt', wrong, state) end
    L.revive(e.queue, e.id, h, nil)
    return { e.id, '0', 'waiting', '', '' }
  end
  return { e.id, '0', state, '', '' }
end

local function accept(e)
  local wrong = unfit(e)
  if wrong then return refuse(e, 'corrupt', wrong) end
  if (not fresh or written[e.id]) and call('EXISTS', e.at) == 1 then
    settle()
    local h, _, message = L.load(e.id)
    return h and again(e, h) or refuse(e, 'corrupt', message)
  end
  local closed, of = barred(e), known[e.queue]
  if closed then return closed end
  if e.strict and not of.served then
    if L.type(K.settings(e.queue)) ~= 'hash' then
      return refuse(e, 'unknown-queue', 'no HeavyQueue serves the queue ' .. e.queue)
    end
    of.served = true
  end
  local unheld = free[e.queue]
  if e.dedup == '' or (unheld and unheld[e.dedup]) then return write(e) end
  settle()
  return deduplicated(e) or write(e)
end

-- One look for all entries at what each would look at by itself, of use while none of their jobs is there.
local function foresee(entries)
  local jobs, asked = {}, {}
  for i = 1, #entries do jobs[i] = entries[i].at end
  if #entries < 2 or call('EXISTS', unpack(jobs)) > 0 then return end
  fresh = true
  for i = 1, #entries do
    local q, dedup = entries[i].queue, entries[i].dedup
    if dedup ~= '' then
      local names = asked[q] or {}
      names[#names + 1], asked[q] = dedup, names
    end
  end
  for q, names in pairs(asked) do
    local found, unheld = try('HMGET', K.dedup(q), unpack(names)), {}
    for i = 1, found.err and 0 or #names do unheld[names[i]] = not found[i] or nil end
    free[q] = unheld
  end
end

-- Entries of one call (L.entry), each all or nothing and safe to repeat. For each the state of the job it made, or {id, '0',
-- state, error | '', message}; the id is another job's when the entry was deduplicated.
function L.accept_all(entries)
  local replies = {}
  foresee(entries)
  local whole, message = pcall(function()
    for i = 1, #entries do replies[i] = accept(entries[i]) end
  end)
  settle()
  for q, n in pairs(created) do L.count(q, 'enqueued', n) end
  created = {}
  if not whole then error(message, 0) end -- as Redis put it
  return replies
end
-- One entry: {id, '1' created | '0', state, error | '', message}.
function L.accept(e)
  local made = L.accept_all({ e })[1]
  return type(made) == 'string' and { e.id, '1', made, '', '' } or made
end

-- What entries share: lines (queue, task, if_exists, delay ms, expires ms or '', options JSON or '', description, strict
-- '1'|'0', mode of deduplication, its ttl ms or '', ids of dependencies with commas between, tag of the settings it was
-- held against or '').
local function header(text)
  local part, n = {}, 0
  for line in string.gmatch(text .. '\n', '([^\n]*)\n') do
    n = n + 1
    part[n] = line
  end
  local e = {
    queue = part[1], task = part[2], if_exists = part[3], delay = tonumber(part[4]), expires = tonumber(part[5]),
    options = part[6], description = part[7], strict = part[8] == '1', mode = part[9], ttl = tonumber(part[10]),
    depends = {}, tag = part[12], fields = {}, incarnation = '', fingerprint = '', trace = '',
  }
  for id in string.gmatch(part[11], '[^,]+') do e.depends[#e.depends + 1] = id end
  e.__index = e
  return e
end

local priorities = { [''] = 0 } -- those of one call are mostly the same
-- As a claim reads it from the job: out of range (a default is whatever a queue's settings say) is none.
local function priority_of(text)
  local found = priorities[text] or L.priority({ ['hl:priority'] = text })
  priorities[text] = found
  return found
end

-- The entry at ARGV[i], and where the next one begins. In front of it, where they are others than those before, what it
-- shares with the next: a line break and the lines of `header`. Its own, each with a NUL at its end: id, incarnation,
-- fingerprint or '', traceparent or '', priority or '', lifo '1' or '', concurrency key or '', deduplication key or '';
-- then the data. Without a fingerprint the id is random: nobody else means this job.
local shared, job_key = nil, K.job('')
function L.entry(i)
  local text = ARGV[i]
  if string.byte(text) == 10 then
    shared = header(cut(text, 2))
    i, text = i + 1, ARGV[i + 1]
  end
  local id, incarnation, fingerprint, trace, priority, lifo, key, dedup, from = struct.unpack('ssssssss', text)
  local e = { id = id, at = job_key .. id, data = cut(text, from), priority = priority_of(priority), lifo = lifo == '1',
    key = key, dedup = dedup, turn = false }
  if incarnation ~= '' or fingerprint ~= '' then e.incarnation, e.fingerprint = incarnation, fingerprint end
  if trace ~= '' then e.trace = trace end
  return setmetatable(e, shared), i + 1
end
