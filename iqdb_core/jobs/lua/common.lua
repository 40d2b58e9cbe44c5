-- What every script begins with: put before each of them when it is loaded.
--
-- ARGV[1]   prefix of every key, `P` from here on
--
-- Every script may run twice with the same arguments without harm, because a lost answer is asked for again.

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

-- Redis refuses a script's growth when memory is full, but only before its first write. Workers free memory,
-- so their scripts begin with a write that changes nothing and then always run to their end.
local function even_when_full() redis.call('ZREM', P .. 'leases', '') end

-- Runs, without changing anything, commands of which one refused half way would leave a job in pieces.
local function meet()
  redis.call('ZADD', P .. 'leases', 'XX', '0', '')
  redis.call('PERSIST', P .. 'payload:')
  redis.call('HDEL', P .. 'drain', '')
  redis.call('DEL', P .. 'payload:')
end

-- Whether the ledger holds the jobs of another database than `store_id`; '' asks nothing.
local function is_foreign(store_id)
  local store = redis.call('GET', P .. 'store')
  return store and store_id ~= '' and store ~= store_id
end

-- Jobs that a claim would find now.
local function count_claimable(t)
  local count = redis.call('ZCOUNT', P .. 'later', '-inf', text(t))
  if redis.call('ZCOUNT', P .. 'leases', '-inf', text(t)) > 0 then count = count + 1 end
  for _, lane in ipairs(LANES) do count = count + redis.call('ZCARD', P .. lane) end
  return count
end

-- Claims that waiting jobs are for. Not each of a long queue: a task goes on claiming, and sends another
-- message when its time is over.
local function count_wanted(waiting) return math.min(math.ceil(waiting / CLAIM_JOBS), MOST_MESSAGES) end

-- Says a word to a claimant that listens: 'now', or 'soon' where more jobs may join those that wait.
local function tell(claimant, word)
  redis.call('RPUSH', P .. 'wake:' .. claimant, word)
  redis.call('PEXPIRE', P .. 'wake:' .. claimant, '10000')
end

-- Takes a claimant off the lists of those that have nothing to do.
local function note_busy(claimant)
  redis.call('ZREM', P .. 'idle', claimant)
  redis.call('ZREM', P .. 'woken', claimant)
  redis.call('DEL', P .. 'wake:' .. claimant)
end

-- Has waiting jobs claimed: wakes claimants that have nothing to do, and answers how many messages are
-- missing in the queue besides; at most `most`. A claimant that listens looks by itself when its time is over,
-- so a word that is lost costs only time.
local function call_claimants(t, queue, most, is_urgent)
  local waiting = count_claimable(t)
  local missing = count_wanted(waiting)
  local woken = redis.call('ZRANGEBYSCORE', P .. 'woken', '(' .. text(t), '+inf', 'LIMIT', 0, missing)
  local is_full = is_urgent or waiting >= CLAIM_JOBS * math.max(1, #woken)
  if is_full then
    for _, claimant in ipairs(woken) do tell(claimant, 'now') end
  end
  missing = missing - #woken
  if missing > 0 then
    local idle = redis.call('ZREVRANGEBYSCORE', P .. 'idle', '+inf', '(' .. text(t), 'LIMIT', 0, missing)
    for _, claimant in ipairs(idle) do
      redis.call('ZREM', P .. 'idle', claimant)
      redis.call('ZADD', P .. 'woken', text(t + WOKEN_US), claimant)
      tell(claimant, is_full and 'now' or 'soon')
    end
    missing = missing - #idle
  end
  return math.min(math.max(0, missing - redis.call('LLEN', queue)), most)
end

-- Puts an open job back into its lane, or among those whose claimants died, at its place by revision. `due`
-- is the time from which on it may be claimed again, nil for at once.
--
-- Into its lane first: a job that is not queued is dropped from there by who meets it, so that a Redis which
-- refuses one of these commands leaves nothing wrong behind.
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

-- From when on a job may be claimed whose claimant died; nil for at once. The first death had up to 31
-- others aboard, and most are cleared by their next claim. Whoever dies again waits for one to two pauses: a
-- machine that goes down, or a neighbour that takes all the memory, is not to be met three times in a row by
-- a job that only happened to be there. By revision, so that those who died together come apart.
local function due_after_death(pause, revision, attempts)
  if attempts < 2 or pause < 1 then return nil end
  local t = now()
  return t + pause + (t + tonumber(revision) * 1299709) % pause
end

-- Ends a claim whose jobs are not final: back they go. With a `pause` (microseconds) their claimant died,
-- without one it lives.
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

