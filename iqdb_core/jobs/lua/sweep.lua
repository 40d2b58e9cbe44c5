-- Note that a worker is there, drop old records, correct times that are too far ahead because the clock was
-- set back, and count the messages that are missing.
--
-- ARGV[2]   how long records of done jobs are kept, microseconds
-- ARGV[3]   the same of failed ones
-- ARGV[4]   most records of each kind
-- ARGV[5]   most records dropped
-- ARGV[6]   key of Celery's queue
-- ARGV[7]   name of the worker
-- ARGV[8]   id of the store that the worker writes to; '' when it is not known
-- ARGV[9]   lease of a claim, microseconds
--
-- Answers how many messages to send, or 'foreign'. Their number follows from the jobs that wait: a message
-- that was lost, or never sent, is replaced at the next sweep, and one too many finds nothing to do.

local MOST_SENT = 64
local LONGEST_US = 120 * 1000000  -- more than any job waits that is put back, and than any claimant listens
even_when_full()
if is_foreign(ARGV[8]) then
  redis.call('ZREM', P .. 'workers', ARGV[7])  -- it may have reported before it knew its store
  return 'foreign'
end
local t, limit = now(), tonumber(ARGV[5])
redis.call('ZADD', P .. 'workers', text(t), ARGV[7])
redis.call('ZREMRANGEBYSCORE', P .. 'workers', '-inf', text(t - 300 * 1000000))
redis.call('ZREMRANGEBYSCORE', P .. 'workers', '(' .. text(t), '+inf')
trim('done', tonumber(ARGV[2]), tonumber(ARGV[4]), limit)
trim('failed', tonumber(ARGV[3]), tonumber(ARGV[4]), limit)
for _, name in ipairs({'idle', 'woken'}) do
  redis.call('ZREMRANGEBYSCORE', P .. name, '-inf', text(t))
  redis.call('ZREMRANGEBYSCORE', P .. name, '(' .. text(t + LONGEST_US), '+inf')
end
-- After the clock was set back, as by a failover, what is due by the old one would wait that much longer.
local function bring_near(name, latest)
  local far = redis.call('ZRANGEBYSCORE', P .. name, '(' .. text(latest), '+inf', 'LIMIT', 0, limit)
  for _, member in ipairs(far) do redis.call('ZADD', P .. name, text(latest), member) end
end
bring_near('later', t + LONGEST_US)
bring_near('leases', t + 5 * tonumber(ARGV[9]))  -- leases of other workers may be longer
local there = redis.call('LLEN', ARGV[6]) + redis.call('ZCARD', P .. 'idle') + redis.call('ZCARD', P .. 'woken')
return math.min(math.max(0, count_wanted(count_claimable(t)) - there), MOST_SENT)
