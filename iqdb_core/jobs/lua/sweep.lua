-- Find jobs that must be sent again, note that a worker is there, and drop old records.
--
-- ARGV[2]   how long records of done jobs are kept, microseconds
-- ARGV[3]   the same of failed ones
-- ARGV[4]   most records of each kind
-- ARGV[5]   patience with a message, microseconds
-- ARGV[6]   most jobs
-- ARGV[7]   key of the queue
-- ARGV[8]   name of the worker
--
-- Answers the ids to be sent now. A message is lost when its job is overdue with a worker, or when messages sent
-- long after it have been started (the queue is first in, first out), or when it is old and the queue is empty.
-- Age alone proves nothing: a long queue is no loss, and sending it again would make it longer.

even_when_full()
local t, limit = now(), tonumber(ARGV[6])
redis.call('ZADD', P .. 'workers', text(t), ARGV[8])
redis.call('ZREMRANGEBYSCORE', P .. 'workers', '-inf', text(t - 300 * 1000000))
local horizon = t
if redis.call('LLEN', ARGV[7]) > 0 then
  horizon = math.min(t, tonumber(redis.call('GET', P .. 'delivered') or '0'))
end
local found = redis.call('ZRANGEBYSCORE', P .. 'due', '-inf', text(t), 'LIMIT', 0, limit)
local before = text(horizon - tonumber(ARGV[5]))
local lost = redis.call('ZRANGEBYSCORE', P .. 'waiting', '-inf', before, 'LIMIT', 0, limit)
for _, id in ipairs(lost) do found[#found + 1] = id end
local answer = {}
for _, id in ipairs(found) do
  redis.call('ZREM', P .. 'due', id)
  redis.call('ZREM', P .. 'waiting', id)
  if is_open(redis.call('HGET', P .. 'job:' .. id, 'state')) then
    to_queued(id)
    redis.call('ZADD', P .. 'waiting', text(t), id)
    answer[#answer + 1] = id
  end
end
trim('done', tonumber(ARGV[2]), tonumber(ARGV[4]), limit)
trim('failed', tonumber(ARGV[3]), tonumber(ARGV[4]), limit)
return answer
