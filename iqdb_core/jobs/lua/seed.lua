-- Seed the clock of revisions, and note whose jobs these are.
--
-- ARGV[2]   no revision at or below this one is given out from now on
-- ARGV[3]   id of the store that the jobs are for; '' notes nothing
--
-- Answers 'ok'; or 'foreign', and changes nothing, if the ledger is another store's and in use: it has open
-- jobs, or workers. If not, that store was replaced, or its front ends notice at their next write.

local WORKER_SILENT_US = 30 * 1000000
if is_foreign(ARGV[3]) and (redis.call('ZCARD', P .. 'jobs:queued') > 0
  or redis.call('ZCARD', P .. 'jobs:running') > 0
  or redis.call('ZCOUNT', P .. 'workers', text(now() - WORKER_SILENT_US), '+inf') > 0) then
  return 'foreign'
end
local clock = tonumber(redis.call('GET', P .. 'clock') or '0')
redis.call('SET', P .. 'clock', text(math.max(clock, tonumber(ARGV[2]))))
if ARGV[3] ~= '' then redis.call('SET', P .. 'store', ARGV[3]) end
return 'ok'
