-- Put jobs back that cannot be done now; the sweep sends them again after the delay.
--
-- ARGV[2]   delay, microseconds
-- ARGV[3..] ids

even_when_full()
local due = text(now() + tonumber(ARGV[2]))
for i = 3, #ARGV do
  local id, key = ARGV[i], P .. 'job:' .. ARGV[i]
  if redis.call('HGET', key, 'state') == 'running' then
    to_queued(id)
    redis.call('HINCRBY', key, 'deferrals', 1)
    redis.call('ZADD', P .. 'due', due, id)
  end
end
return redis.status_reply('OK')
