-- Take jobs in hand that are not final.
--
-- ARGV[2]   lease, microseconds
-- ARGV[3..] ids
--
-- Answers per id {kind, image id, revision, attempts, deferrals} or nothing.

even_when_full()
local t = now()
local delivered = tonumber(redis.call('GET', P .. 'delivered') or '0')
local answer = {}
for i = 3, #ARGV do
  local id, key = ARGV[i], P .. 'job:' .. ARGV[i]
  local job = redis.call('HMGET', key, 'state', 'kind', 'image_id', 'revision', 'attempts', 'deferrals')
  if is_open(job[1]) then
    delivered = math.max(delivered, tonumber(redis.call('ZSCORE', P .. 'waiting', id) or '0'))
    redis.call('ZREM', P .. 'waiting', id)
    redis.call('ZREM', P .. 'jobs:queued', id)
    redis.call('ZADD', P .. 'jobs:running', job[4], id)
    redis.call('ZADD', P .. 'due', text(t + tonumber(ARGV[2])), id)
    redis.call('HSET', key, 'state', 'running', 'updated', text(t))
    answer[#answer + 1] = {job[2], job[3], job[4], job[5] or '0', job[6] or '0'}
  else
    answer[#answer + 1] = false
  end
end
redis.call('SET', P .. 'delivered', text(delivered))
return answer
