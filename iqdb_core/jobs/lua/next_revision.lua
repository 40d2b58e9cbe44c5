-- Give out one revision.
--
-- ARGV[2]   no revision at or below this one is given out
-- ARGV[3]   id of the store that the write is for
--
-- Answers it, nothing when the clock has no value, or 'foreign'.

if is_foreign(ARGV[3]) then return 'foreign' end
local clock = redis.call('GET', P .. 'clock')
if not clock then return false end
local revision = text(math.max(now(), tonumber(clock) + 1, tonumber(ARGV[2]) + 1))
redis.call('SET', P .. 'clock', revision)
return revision
