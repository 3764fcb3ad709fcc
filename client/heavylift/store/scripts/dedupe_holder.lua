-- Who holds a deduplication key; on request the key is freed.
-- ARGV: prefix, prefix, queue, key, free it '1'|'0'.
-- Returns: the job's id, or '' when the key was free.
local q, key = ARGV[3], ARGV[4]
if L.type(K.dedup(q)) ~= 'hash' then return '' end
local entry = L.dedup_holder(q, key)
if not entry then return '' end
if ARGV[5] == '1' then
  L.dedup_free(q, key, entry)
  L.emit(q, 'released-key', entry.job, 'key', key)
end
return entry.job
