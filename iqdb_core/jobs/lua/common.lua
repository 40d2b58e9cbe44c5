-- What every script begins with: put before each of them when it is loaded.
--
-- ARGV[1]   prefix of every key, `P` from here on
--
-- Every script may run twice with the same arguments without harm, because a lost answer is asked for again.

local P = ARGV[1]

local function text(number) return string.format('%.0f', number) end

-- Microseconds since 1970 by the clock of Redis.
local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000000 + tonumber(t[2])
end

local function is_open(state) return state == 'queued' or state == 'running' end

-- Redis refuses a script's growth when memory is full, but only before its first write. Workers free memory, so
-- their scripts begin with a write that changes nothing and then always run to their end.
local function even_when_full() redis.call('ZREM', P .. 'waiting', '') end

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

-- Makes a job that was with a worker wait again, at its place by revision.
local function to_queued(id)
  redis.call('ZREM', P .. 'jobs:running', id)
  redis.call('ZADD', P .. 'jobs:queued', redis.call('HGET', P .. 'job:' .. id, 'revision'), id)
  redis.call('HSET', P .. 'job:' .. id, 'state', 'queued', 'updated', text(now()))
end

