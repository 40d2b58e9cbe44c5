-- Accept jobs, all of them or none, with consecutive revisions in the order in which they are given.
--
-- ARGV[2]   most jobs that the queue may hold
-- ARGV[3]   most bytes of payloads
-- ARGV[4]   how much more it may hold if all jobs are interactive, percent
-- ARGV[5]   id of the store that the jobs are for
-- ARGV[6]   no revision at or below this one is given out
-- ARGV[7]   key of Celery's queue
-- ARGV[8..] per job: id, kind, lane, image id, bytes, source, '1' if it must replace no image, else ''
--
-- A payload waits under `staged:ID`, with a time to live, and moves to `payload:ID` here. So whatever is sent
-- again never touches an accepted job.
--
-- Answers {'ok', messages to send, jobs, bytes, revision...} with the size of the queue afterwards,
-- {'full', jobs, bytes, jobs per second, bytes per second}, {'unseeded'}, {'unstaged'} or {'foreign'}.

local FIRST, WORDS = 8, 7
local ids, total, is_waited_for, is_urgent = {}, 0, true, false
for i = FIRST, #ARGV, WORDS do
  ids[#ids + 1] = ARGV[i]
  total = total + tonumber(ARGV[i + 4])
  is_waited_for = is_waited_for and ARGV[i + 2] == 'interactive'
  is_urgent = is_urgent or ARGV[i + 2] == 'interactive'
end
-- What is accepted stays accepted, even if a right is missing to wake claimants: then messages are sent.
local function call_workers(t)
  local most = math.ceil(#ids / CLAIM_JOBS)
  local is_done, missing = pcall(call_claimants, t, ARGV[7], most, is_urgent)
  return is_done and missing or most
end
local function answer_with(answer)
  for _, id in ipairs(ids) do redis.call('DEL', P .. 'staged:' .. id) end
  return answer
end
local function size()
  return redis.call('ZCARD', P .. 'jobs:queued') + redis.call('ZCARD', P .. 'jobs:running'),
    tonumber(redis.call('GET', P .. 'bytes') or '0')
end
local jobs, held = size()
local t = now()
if redis.call('EXISTS', P .. 'job:' .. ids[1]) == 1 then
  local answer = {'ok', call_workers(t), text(jobs), text(held)}
  for _, id in ipairs(ids) do answer[#answer + 1] = redis.call('HGET', P .. 'job:' .. id, 'revision') end
  return answer_with(answer)
end
if is_foreign(ARGV[5]) then return answer_with({'foreign'}) end
local clock = redis.call('GET', P .. 'clock')
if not clock then return {'unseeded'} end
local room = 1
if is_waited_for then room = 1 + tonumber(ARGV[4]) / 100 end
if jobs + #ids > tonumber(ARGV[2]) * room or held + total > tonumber(ARGV[3]) * room then
  local drain = redis.call('HMGET', P .. 'drain', 'jobs_per_s', 'bytes_per_s')
  return answer_with({'full', text(jobs), text(held), drain[1] or '0', drain[2] or '0'})
end
for i = FIRST, #ARGV, WORDS do
  if ARGV[i + 1] ~= 'delete' and redis.call('EXISTS', P .. 'staged:' .. ARGV[i]) == 0 then
    return answer_with({'unstaged'})
  end
end
local revision = math.max(t, tonumber(clock) + 1, tonumber(ARGV[6]) + 1)
-- Commands are tried first, since Redis undoes nothing if it refuses one half way: no record is written
-- before all of them were allowed, and a payload without a record expires.
try_commands()
redis.call('SET', P .. 'clock', text(revision + #ids - 1))
local revisions = {}
for i = FIRST, #ARGV, WORDS do
  local id, place = ARGV[i], text(revision)
  if ARGV[i + 1] ~= 'delete' then
    redis.call('RENAME', P .. 'staged:' .. id, P .. 'payload:' .. id)
  end
  redis.call('HSET', P .. 'job:' .. id, 'state', 'queued', 'kind', ARGV[i + 1], 'lane', ARGV[i + 2],
    'image_id', ARGV[i + 3], 'revision', place, 'bytes', ARGV[i + 4])
  if ARGV[i + 5] ~= '' then redis.call('HSET', P .. 'job:' .. id, 'source', ARGV[i + 5]) end
  if ARGV[i + 6] ~= '' then redis.call('HSET', P .. 'job:' .. id, 'if_absent', ARGV[i + 6]) end
  redis.call('PERSIST', P .. 'payload:' .. id)
  redis.call('ZADD', P .. 'jobs', place, id)
  redis.call('ZADD', P .. 'jobs:queued', place, id)
  redis.call('ZADD', P .. 'lane:' .. ARGV[i + 2], place, id)
  revisions[#revisions + 1] = place
  revision = revision + 1
end
redis.call('SET', P .. 'bytes', text(held + total))
jobs, held = size()
local answer = {'ok', call_workers(t), text(jobs), text(held)}
for _, place in ipairs(revisions) do answer[#answer + 1] = place end
return answer
