-- Say the final word on jobs, drop their payloads and tell those who wait.
--
-- ARGV[2]   how long records of done jobs are kept, microseconds
-- ARGV[3]   the same of failed ones
-- ARGV[4]   most records of each kind
-- ARGV[5]   newest seq, or ''
-- ARGV[6]   channel of changes
-- ARGV[7]   channel of finished jobs
-- ARGV[8..] per job: id, 'done' or 'failed', signature or reason, seq or class of the error
--
-- Answers how many were not final before.

even_when_full()
local place = math.max(now(), tonumber(redis.call('GET', P .. 'finish_clock') or '0') + 1)
local finished = {}
for i = 8, #ARGV, 4 do
  local id, state, key = ARGV[i], ARGV[i + 1], P .. 'job:' .. ARGV[i]
  redis.call('DEL', P .. 'payload:' .. id)
  local job = redis.call('HMGET', key, 'state', 'bytes')
  if is_open(job[1]) then
    redis.call('DECRBY', P .. 'bytes', job[2])
    for _, list in ipairs({'waiting', 'due', 'jobs:queued', 'jobs:running'}) do
      redis.call('ZREM', P .. list, id)
    end
    redis.call('HDEL', key, 'attempts', 'deferrals', 'bytes')
    redis.call('HSET', key, 'state', state, 'updated', text(place))
    if state == 'failed' then
      redis.call('HSET', key, 'reason', ARGV[i + 2], 'error', ARGV[i + 3])
    else
      redis.call('HSET', key, 'signature', ARGV[i + 2], 'seq', ARGV[i + 3])
    end
    redis.call('ZADD', P .. 'jobs:' .. state, text(place), id)
    place = place + 1
    finished[#finished + 1] = id
  end
end
redis.call('SET', P .. 'finish_clock', text(place))
trim('done', tonumber(ARGV[2]), tonumber(ARGV[4]), 2 * #ARGV)
trim('failed', tonumber(ARGV[3]), tonumber(ARGV[4]), 2 * #ARGV)
if ARGV[5] ~= '' then redis.call('PUBLISH', ARGV[6], ARGV[5]) end
if #finished > 0 then redis.call('PUBLISH', ARGV[7], table.concat(finished, ' ')) end
return #finished
