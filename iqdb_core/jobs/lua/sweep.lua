-- Note that a worker is there, drop old records, and tell whether jobs wait without a message.
--
-- ARGV[2]   how long records of done jobs are kept, microseconds
-- ARGV[3]   the same of failed ones
-- ARGV[4]   most records of each kind
-- ARGV[5]   most records dropped
-- ARGV[6]   key of Celery's queue
-- ARGV[7]   name of the worker
-- ARGV[8]   id of the store that the worker writes to; '' when it is not known
--
-- Answers how many messages to send, or 'foreign'. Their number follows from what waits: a message that was
-- lost, or never sent, is replaced at the next sweep, and one too many finds nothing to do.

local MOST_SENT = 64
even_when_full()
if is_foreign(ARGV[8]) then
  redis.call('ZREM', P .. 'workers', ARGV[7])  -- it may have come before it knew
  return 'foreign'
end
local t, limit = now(), tonumber(ARGV[5])
redis.call('ZADD', P .. 'workers', text(t), ARGV[7])
redis.call('ZREMRANGEBYSCORE', P .. 'workers', '-inf', text(t - 300 * 1000000))
trim('done', tonumber(ARGV[2]), tonumber(ARGV[4]), limit)
trim('failed', tonumber(ARGV[3]), tonumber(ARGV[4]), limit)
redis.call('ZREMRANGEBYSCORE', P .. 'idle', '-inf', text(t))
redis.call('ZREMRANGEBYSCORE', P .. 'woken', '-inf', text(t))
local there = redis.call('LLEN', ARGV[6]) + redis.call('ZCARD', P .. 'idle') + redis.call('ZCARD', P .. 'woken')
return math.min(math.max(0, count_wanted(count_claimable(t)) - there), MOST_SENT)
