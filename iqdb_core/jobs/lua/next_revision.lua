-- Give out one revision.
--
-- Answers it, or nothing when the clock has no value.

local clock = redis.call('GET', P .. 'clock')
if not clock then return false end
local revision = text(math.max(now(), tonumber(clock) + 1))
redis.call('SET', P .. 'clock', revision)
return revision
