-- Accept jobs, all of them or none, with consecutive revisions in the order in which they are given.
--
-- ARGV[2]   most jobs that the queue may hold
-- ARGV[3]   most bytes of payloads
-- ARGV[4..] per job: id, kind, image id, bytes. Its payload is there already, with a time to live
--
-- Answers {'ok', revision...}, {'full', jobs, bytes}, {'unseeded'} or {'unstaged'}.

local ids, total = {}, 0
for i = 4, #ARGV, 4 do
  ids[#ids + 1] = ARGV[i]
  total = total + tonumber(ARGV[i + 3])
end
local function refuse(answer)
  for _, id in ipairs(ids) do redis.call('DEL', P .. 'payload:' .. id) end
  return answer
end
local answer = {'ok'}
if redis.call('EXISTS', P .. 'job:' .. ids[1]) == 1 then
  for _, id in ipairs(ids) do answer[#answer + 1] = redis.call('HGET', P .. 'job:' .. id, 'revision') end
  return answer
end
local clock = redis.call('GET', P .. 'clock')
if not clock then return {'unseeded'} end
local jobs = redis.call('ZCARD', P .. 'jobs:queued') + redis.call('ZCARD', P .. 'jobs:running')
local held = tonumber(redis.call('GET', P .. 'bytes') or '0')
if jobs + #ids > tonumber(ARGV[2]) or held + total > tonumber(ARGV[3]) then
  return refuse({'full', text(jobs), text(held)})
end
for i = 4, #ARGV, 4 do
  if ARGV[i + 1] ~= 'delete' and redis.call('EXISTS', P .. 'payload:' .. ARGV[i]) == 0 then
    return refuse({'unstaged'})
  end
end
local t = now()
local revision = math.max(t, tonumber(clock) + 1)
redis.call('SET', P .. 'clock', text(revision + #ids - 1))
redis.call('INCRBY', P .. 'bytes', text(total))
for i = 4, #ARGV, 4 do
  local id = ARGV[i]
  redis.call('PERSIST', P .. 'payload:' .. id)
  redis.call('HSET', P .. 'job:' .. id, 'state', 'queued', 'kind', ARGV[i + 1], 'image_id', ARGV[i + 2],
    'revision', text(revision), 'bytes', ARGV[i + 3], 'created', text(t), 'updated', text(t))
  redis.call('ZADD', P .. 'jobs', text(revision), id)
  redis.call('ZADD', P .. 'jobs:queued', text(revision), id)
  redis.call('ZADD', P .. 'waiting', text(t), id)
  answer[#answer + 1] = text(revision)
  revision = revision + 1
end
return answer
