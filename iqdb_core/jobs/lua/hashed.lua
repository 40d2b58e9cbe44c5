-- Take the blame off a job: it came back from decoding, and is not to blame for what happens next.
--
-- ARGV[2]   id

redis.call('HDEL', P .. 'job:' .. ARGV[2], 'attempts')
return redis.status_reply('OK')
