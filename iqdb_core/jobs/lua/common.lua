-- The common part, put before each script when it is loaded.
--
-- ARGV[1]   prefix of every key, `P` from here on
--
-- Every script may run twice with the same arguments without harm: if its answer is lost it is sent again.

local P = ARGV[1]
local LANES = {'lane:suspect', 'lane:interactive', 'lane:bulk'}
local CLAIM_JOBS = 32
local MOST_MESSAGES = 256
local WOKEN_US = 1000000

local function text(number) return string.format('%.0f', number) end

-- Microseconds since 1970 by the clock of Redis.
local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000000 + tonumber(t[2])
end

local function is_open(state) return state == 'queued' or state == 'running' end

-- When memory is full Redis refuses a command that needs more, unless the script has already written. Workers
-- free memory, so their scripts begin with a write that changes nothing, and then run to their end.
local function even_when_full() redis.call('ZREM', P .. 'leases', '') end

-- Tries, without changing anything, commands whose refusal half way would leave a job incomplete.
local function try_commands()
  redis.call('ZADD', P .. 'leases', 'XX', '0', '')
  redis.call('PERSIST', P .. 'payload:')
  redis.call('HDEL', P .. 'drain', '')
  redis.call('DEL', P .. 'payload:')
end

-- Whether the ledger holds the jobs of another database than `store_id`; '' counts as the same.
local function is_foreign(store_id)
  local store = redis.call('GET', P .. 'store')
  return store and store_id ~= '' and store ~= store_id
end

-- Whether a claimant has a suspect in hand. No other one is claimed then: each may hang its process until the
-- time limit of tasks, and together they would hold all processes.
local function is_suspect_in_hand()
  local claimant, ticket = string.match(redis.call('GET', P .. 'suspect') or '', '^(.*) (.-)$')
  return claimant and redis.call('LINDEX', P .. 'claim:' .. claimant, 0) == ticket
end

-- Jobs that a claim would find now.
local function count_claimable(t)
  local count = redis.call('ZCOUNT', P .. 'later', '-inf', text(t))
  if redis.call('ZCOUNT', P .. 'leases', '-inf', text(t)) > 0 then count = count + 1 end
  for _, lane in ipairs(LANES) do
    if lane ~= 'lane:suspect' or not is_suspect_in_hand() then count = count + redis.call('ZCARD', P .. lane) end
  end
  return count
end

-- How many claims to ask for. Not one for each part of a long queue: a task goes on claiming, and sends
-- another message when its time is over.
local function count_wanted(waiting) return math.min(math.ceil(waiting / CLAIM_JOBS), MOST_MESSAGES) end

-- Wakes a claimant that listens: with 'now', or with 'soon' if more jobs may join those that wait.
local function wake(claimant, word)
  redis.call('RPUSH', P .. 'wake:' .. claimant, word)
  redis.call('PEXPIRE', P .. 'wake:' .. claimant, '10000')
end

-- Takes a claimant off the lists of those that have nothing to do.
local function note_busy(claimant)
  redis.call('ZREM', P .. 'idle', claimant)
  redis.call('ZREM', P .. 'woken', claimant)
  redis.call('DEL', P .. 'wake:' .. claimant)
end

-- Has waiting jobs claimed: wakes claimants that have nothing to do, and returns how many messages must be
-- sent besides, at most `most`. A claimant that listens looks by itself when its time is over, so a lost
-- wake-up costs only time.
local function call_claimants(t, queue, most, is_urgent)
  local waiting = count_claimable(t)
  local missing = count_wanted(waiting)
  local woken = redis.call('ZRANGEBYSCORE', P .. 'woken', '(' .. text(t), '+inf', 'LIMIT', 0, missing)
  local is_full = is_urgent or waiting >= CLAIM_JOBS * math.max(1, #woken)
  if is_full then
    for _, claimant in ipairs(woken) do wake(claimant, 'now') end
  end
  missing = missing - #woken
  if missing > 0 then
    local idle = redis.call('ZREVRANGEBYSCORE', P .. 'idle', '+inf', '(' .. text(t), 'LIMIT', 0, missing)
    for _, claimant in ipairs(idle) do
      redis.call('ZREM', P .. 'idle', claimant)
      redis.call('ZADD', P .. 'woken', text(t + WOKEN_US), claimant)
      wake(claimant, is_full and 'now' or 'soon')
    end
    missing = missing - #idle
  end
  return math.min(math.max(0, missing - redis.call('LLEN', queue)), most)
end

-- Puts an open job back into its lane, or into that of suspects, at its place by revision. `due` is the time
-- from which it may be claimed again, nil for at once.
--
-- Into its lane first: claims remove jobs that are not queued from lanes, so nothing wrong is left if Redis
-- refuses one of these commands.
local function to_queued(id, attempts, due)
  local key = P .. 'job:' .. id
  local job = redis.call('HMGET', key, 'revision', 'lane')
  if due then
    redis.call('ZADD', P .. 'later', text(due), id)
  else
    redis.call('ZADD', P .. 'lane:' .. (attempts > 0 and 'suspect' or job[2]), job[1], id)
  end
  redis.call('HSET', key, 'state', 'queued', 'holder', '', 'attempts', text(attempts))
  redis.call('ZADD', P .. 'jobs:queued', job[1], id)
  redis.call('ZREM', P .. 'jobs:running', id)
end

-- When a job may be claimed again whose claimant died; nil for at once. At the first death up to 31 other
-- jobs were in hand, and most are cleared by their next claim. After another death a job waits for one to two
-- pauses: one that only happened to be there must not meet a failing machine, or a process that takes all the
-- memory, three times in a row. The time depends on the revision, so that jobs of one claim come apart.
local function due_after_death(pause, revision, attempts)
  if attempts < 2 or pause < 1 then return nil end
  local t = now()
  return t + pause + (t + tonumber(revision) * 1299709) % pause
end

-- Ends a claim and puts back its jobs that are not final. With a `pause` (microseconds) the claimant has
-- died, without one it lives.
local function give_back(claimant, pause)
  local claim = redis.call('LRANGE', P .. 'claim:' .. claimant, 0, -1)
  for i = 2, #claim do
    local key = P .. 'job:' .. claim[i]
    local job = redis.call('HMGET', key, 'state', 'holder', 'attempts', 'revision', 'kind')
    local attempts = tonumber(job[3] or '0')
    if job[1] == 'running' and job[2] == claimant .. ' ' .. claim[1] then
      if pause then
        to_queued(claim[i], attempts, due_after_death(pause, job[4], attempts))
      else
        to_queued(claim[i], job[5] == 'image' and math.max(0, attempts - 1) or attempts)
      end
    end
  end
  redis.call('DEL', P .. 'claim:' .. claimant)
  redis.call('ZREM', P .. 'leases', claimant)
end

-- Drops records of final jobs that are older than `keep` microseconds, or more than `most`; at most `limit`.
local function trim(state, keep, most, limit)
  local key = P .. 'jobs:' .. state
  local old = redis.call('ZRANGEBYSCORE', key, '-inf', text(now() - keep), 'LIMIT', 0, limit)
  local surplus = redis.call('ZCARD', key) - most
  if surplus > #old then
    old = redis.call('ZRANGE', key, 0, math.min(surplus, limit) - 1)
  end
  for _, id in ipairs(old) do
    redis.call('DEL', P .. 'job:' .. id)
    redis.call('ZREM', key, id)
    redis.call('ZREM', P .. 'jobs', id)
  end
end

