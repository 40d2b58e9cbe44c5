-- Seed the clock of revisions.
--
-- ARGV[2]   no revision at or below this one is given out from now on

local clock = tonumber(redis.call('GET', P .. 'clock') or '0')
redis.call('SET', P .. 'clock', text(math.max(clock, tonumber(ARGV[2]))))
return redis.status_reply('OK')
