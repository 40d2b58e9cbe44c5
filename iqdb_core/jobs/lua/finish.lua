-- End a claim: make its jobs final or put them back, delete payloads, and publish what is final.
--
-- ARGV[2]   how long records of done jobs are kept, microseconds
-- ARGV[3]   the same of failed ones
-- ARGV[4]   most records of each
-- ARGV[5]   newest seq, or ''
-- ARGV[6]   channel of changes
-- ARGV[7]   channel of finished jobs
-- ARGV[8]   claimant
-- ARGV[9]   ticket of the claim
-- ARGV[10..] per job: id, 'done', signature, seq, '1' if its picture is damaged or ''
--                     id, 'failed', reason, class of the error, seq of what was in the way or ''
--                     id, 'back', delay in microseconds, '1' if it is to blame or '', '1' if it is deferred
--                     or ''
--
-- Any claimant may make a job final; the first outcome stays. Only the holder may put a job back.
--
-- Answers how many became final.

even_when_full()
local FIRST, WORDS = 10, 5
local DRAIN_US, DRAIN_FORGOTTEN_US = 5 * 1000000, 60 * 1000000
local t = now()
local holder = ARGV[8] .. ' ' .. ARGV[9]
local place = math.max(t, tonumber(redis.call('GET', P .. 'finish_clock') or '0') + 1)
local finished, freed = {}, 0
local is_open_claim = redis.call('LINDEX', P .. 'claim:' .. ARGV[8], 0) == ARGV[9]
local held = tonumber(redis.call('GET', P .. 'bytes') or '0')

local function finish(id, key, i)
  local job = redis.call('HMGET', key, 'state', 'bytes')
  if not is_open(job[1]) then return end
  if #finished == 0 then redis.call('SET', P .. 'finish_clock', text(place + #ARGV)) end
  if ARGV[i + 1] == 'failed' then
    redis.call('HSET', key, 'state', 'failed', 'reason', ARGV[i + 2], 'error', ARGV[i + 3])
    if ARGV[i + 4] ~= '' then redis.call('HSET', key, 'seq', ARGV[i + 4]) end
  else
    redis.call('HSET', key, 'state', 'done', 'signature', ARGV[i + 2], 'seq', ARGV[i + 3])
    if ARGV[i + 4] ~= '' then redis.call('HSET', key, 'damaged', ARGV[i + 4]) end
  end
  redis.call('HDEL', key, 'attempts', 'deferrals', 'bytes', 'holder')
  redis.call('ZREM', P .. 'jobs:' .. job[1], id)
  if job[1] == 'queued' then
    redis.call('ZREM', P .. 'later', id)
    for _, lane in ipairs(LANES) do redis.call('ZREM', P .. lane, id) end
  end
  redis.call('ZADD', P .. 'jobs:' .. ARGV[i + 1], text(place), id)
  redis.call('DEL', P .. 'payload:' .. id)
  freed = freed + tonumber(job[2] or '0')
  place = place + 1
  finished[#finished + 1] = id
end

local function put_back(id, key, i)
  local job = redis.call('HMGET', key, 'state', 'holder', 'attempts', 'kind', 'deferrals')
  if job[1] ~= 'running' or job[2] ~= holder then return end
  local is_counted = job[4] == 'image'  -- by its claim
  local attempts, deferrals = tonumber(job[3] or '0'), tonumber(job[5] or '0')
  if ARGV[i + 3] ~= '' and not is_counted then
    attempts = attempts + 1
  elseif ARGV[i + 3] == '' and is_counted and attempts > 0 then
    attempts = attempts - 1
  end
  if ARGV[i + 4] ~= '' then deferrals = deferrals + 1 end
  redis.call('HSET', key, 'deferrals', text(deferrals))
  local delay = tonumber(ARGV[i + 2])
  to_queued(id, attempts, delay > 0 and t + delay or nil)
end

-- Commands are tried first, since Redis undoes nothing if it refuses one half way: a job whose payload is
-- deleted must be final.
try_commands()
for i = FIRST, #ARGV, WORDS do
  local id, key = ARGV[i], P .. 'job:' .. ARGV[i]
  if ARGV[i + 1] == 'back' then put_back(id, key, i) else finish(id, key, i) end
end
if #finished > 0 then redis.call('SET', P .. 'bytes', text(held - freed)) end
if is_open_claim then give_back(ARGV[8]) end

if #finished > 0 then
  local drain = redis.call('HMGET', P .. 'drain', 'since', 'jobs', 'bytes')
  local since = tonumber(drain[1] or '0')
  local jobs, bytes = tonumber(drain[2] or '0') + #finished, tonumber(drain[3] or '0') + freed
  if t < since or t - since > DRAIN_FORGOTTEN_US then  -- the clock was set back, or nothing came for long
    redis.call('HSET', P .. 'drain', 'since', text(t), 'jobs', '0', 'bytes', '0')
  elseif t - since > DRAIN_US then
    local s = (t - since) / 1000000
    redis.call('HSET', P .. 'drain', 'since', text(t), 'jobs', '0', 'bytes', '0',
      'jobs_per_s', tostring(jobs / s), 'bytes_per_s', tostring(bytes / s))
  else
    redis.call('HSET', P .. 'drain', 'jobs', text(jobs), 'bytes', text(bytes))
  end
  trim('done', tonumber(ARGV[2]), tonumber(ARGV[4]), 2 * #finished)
  trim('failed', tonumber(ARGV[3]), tonumber(ARGV[4]), 2 * #finished)
  redis.pcall('PUBLISH', ARGV[7], table.concat(finished, ' '))
end
-- These are hints; a user without rights to channels must not fail the script.
if ARGV[5] ~= '' then redis.pcall('PUBLISH', ARGV[6], ARGV[5]) end
return #finished
