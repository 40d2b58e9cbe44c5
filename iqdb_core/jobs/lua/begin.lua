-- Put the blame on a job. Its payload is read beside the script: through Lua a large one would cost three
-- times as much.
--
-- ARGV[2]   lease, microseconds
-- ARGV[3]   id
-- ARGV[4]   attempts, this one included
-- ARGV[5]   id of a job that came back from decoding, or ''
--
-- Answers 0 if the job is final.

even_when_full()
local id, key = ARGV[3], P .. 'job:' .. ARGV[3]
if ARGV[5] ~= '' then redis.call('HDEL', P .. 'job:' .. ARGV[5], 'attempts') end
if not is_open(redis.call('HGET', key, 'state')) then return 0 end
redis.call('HSET', key, 'attempts', ARGV[4])
redis.call('ZADD', P .. 'due', text(now() + tonumber(ARGV[2])), id)
return 1
