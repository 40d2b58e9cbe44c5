"""The ledger's transactions: Lua that Redis runs as one step each.

Every script may run twice with the same arguments without harm, because a lost answer is retried. `JobLedger`
and `WorkLedger` run them; nothing else knows the keys.

Keys, below the prefix:

    clock            last revision given out, microseconds
    finish_clock     last place given out in the lists of final jobs, microseconds
    delivered        newest sending time of a message that a worker has started, microseconds
    bytes            sum of the payloads of jobs that are not final
    job:ID           hash: state kind image_id revision bytes attempts deferrals reason error signature
                     seq created updated
    payload:ID       what the worker needs; gone when the job is final
    jobs             sorted set of all jobs by revision
    jobs:STATE       those in a state: queued and running by revision, done and failed as they became so
    waiting          jobs whose message should be in the queue, by the time it was sent
    due              jobs with a worker or put back, by the time at which the sweep sends them again
    workers          workers by the time they last said they are there
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha1
from typing import Final

_PREAMBLE: Final = """
local P = ARGV[1]
local function text(number) return string.format('%.0f', number) end
local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000000 + tonumber(t[2])
end
local function is_open(state) return state == 'queued' or state == 'running' end
"""

# Redis refuses a script's growth when memory is full, but only before its first write. Workers free memory,
# so their scripts begin with a write that changes nothing and then always run to their end.
_EVEN_WHEN_FULL: Final = "redis.call('ZREM', P .. 'waiting', '')\n"

_TRIM: Final = """
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
"""

_TO_QUEUED: Final = """
local function to_queued(id)
  redis.call('ZREM', P .. 'jobs:running', id)
  redis.call('ZADD', P .. 'jobs:queued', redis.call('HGET', P .. 'job:' .. id, 'revision'), id)
  redis.call('HSET', P .. 'job:' .. id, 'state', 'queued', 'updated', text(now()))
end
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua text and the SHA-1 by which Redis knows it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", sha1(self.text.encode()).hexdigest())  # noqa: S324 - no secret


# prefix, most jobs, most bytes, then per job: id, kind, image id, bytes. Payloads are there already, with a
# time to live. Answers {'ok', revision...}, {'full', jobs, bytes}, {'unseeded'} or {'unstaged'}.
ACCEPT: Final = Script(
    _PREAMBLE
    + """
local ids, total = {}, 0
for i = 4, #ARGV, 4 do
  ids[#ids + 1] = ARGV[i]
  total = total + tonumber(ARGV[i + 3])
end
local function refuse(answer)
  for _, id in ipairs(ids) do redis.call('DEL', P .. 'payload:' .. id) end
  return answer
end
local answer = {'ok'}
if redis.call('EXISTS', P .. 'job:' .. ids[1]) == 1 then
  for _, id in ipairs(ids) do answer[#answer + 1] = redis.call('HGET', P .. 'job:' .. id, 'revision') end
  return answer
end
local clock = redis.call('GET', P .. 'clock')
if not clock then return {'unseeded'} end
local jobs = redis.call('ZCARD', P .. 'jobs:queued') + redis.call('ZCARD', P .. 'jobs:running')
local held = tonumber(redis.call('GET', P .. 'bytes') or '0')
if jobs + #ids > tonumber(ARGV[2]) or held + total > tonumber(ARGV[3]) then
  return refuse({'full', text(jobs), text(held)})
end
for i = 4, #ARGV, 4 do
  if ARGV[i + 1] ~= 'delete' and redis.call('EXISTS', P .. 'payload:' .. ARGV[i]) == 0 then
    return refuse({'unstaged'})
  end
end
local t = now()
local revision = math.max(t, tonumber(clock) + 1)
redis.call('SET', P .. 'clock', text(revision + #ids - 1))
redis.call('INCRBY', P .. 'bytes', text(total))
for i = 4, #ARGV, 4 do
  local id = ARGV[i]
  redis.call('PERSIST', P .. 'payload:' .. id)
  redis.call('HSET', P .. 'job:' .. id, 'state', 'queued', 'kind', ARGV[i + 1], 'image_id', ARGV[i + 2],
    'revision', text(revision), 'bytes', ARGV[i + 3], 'created', text(t), 'updated', text(t))
  redis.call('ZADD', P .. 'jobs', text(revision), id)
  redis.call('ZADD', P .. 'jobs:queued', text(revision), id)
  redis.call('ZADD', P .. 'waiting', text(t), id)
  answer[#answer + 1] = text(revision)
  revision = revision + 1
end
return answer
"""
)

# prefix. Answers the next revision, or nothing when the clock has no value.
NEXT_REVISION: Final = Script(
    _PREAMBLE
    + """
local clock = redis.call('GET', P .. 'clock')
if not clock then return false end
local revision = text(math.max(now(), tonumber(clock) + 1))
redis.call('SET', P .. 'clock', revision)
return revision
"""
)

# prefix, floor: no revision at or below the floor is given out from now on.
SEED: Final = Script(
    _PREAMBLE
    + """
local clock = tonumber(redis.call('GET', P .. 'clock') or '0')
redis.call('SET', P .. 'clock', text(math.max(clock, tonumber(ARGV[2]))))
return redis.status_reply('OK')
"""
)

# prefix, lease, ids. Takes the jobs that are not final; answers per id {kind, image id, revision, attempts,
# deferrals} or nothing.
START: Final = Script(
    _PREAMBLE
    + _EVEN_WHEN_FULL
    + """
local t = now()
local delivered = tonumber(redis.call('GET', P .. 'delivered') or '0')
local answer = {}
for i = 3, #ARGV do
  local id, key = ARGV[i], P .. 'job:' .. ARGV[i]
  local job = redis.call('HMGET', key, 'state', 'kind', 'image_id', 'revision', 'attempts', 'deferrals')
  if is_open(job[1]) then
    delivered = math.max(delivered, tonumber(redis.call('ZSCORE', P .. 'waiting', id) or '0'))
    redis.call('ZREM', P .. 'waiting', id)
    redis.call('ZREM', P .. 'jobs:queued', id)
    redis.call('ZADD', P .. 'jobs:running', job[4], id)
    redis.call('ZADD', P .. 'due', text(t + tonumber(ARGV[2])), id)
    redis.call('HSET', key, 'state', 'running', 'updated', text(t))
    answer[#answer + 1] = {job[2], job[3], job[4], job[5] or '0', job[6] or '0'}
  else
    answer[#answer + 1] = false
  end
end
redis.call('SET', P .. 'delivered', text(delivered))
return answer
"""
)

# prefix, lease, id, attempts, id of one that was hashed or ''. Puts the blame on the job; answers 0 if it is
# final. Its payload is read beside the script: through Lua a large one would cost three times as much.
BEGIN: Final = Script(
    _PREAMBLE
    + _EVEN_WHEN_FULL
    + """
local id, key = ARGV[3], P .. 'job:' .. ARGV[3]
if ARGV[5] ~= '' then redis.call('HDEL', P .. 'job:' .. ARGV[5], 'attempts') end
if not is_open(redis.call('HGET', key, 'state')) then return 0 end
redis.call('HSET', key, 'attempts', ARGV[4])
redis.call('ZADD', P .. 'due', text(now() + tonumber(ARGV[2])), id)
return 1
"""
)

# prefix, id. The job came back from decoding: it is not to blame for what happens next.
HASHED: Final = Script(
    _PREAMBLE
    + """
redis.call('HDEL', P .. 'job:' .. ARGV[2], 'attempts')
return redis.status_reply('OK')
"""
)

# prefix, delay, ids. Puts jobs back that cannot be done now; the sweep sends them again after the delay.
RELEASE: Final = Script(
    _PREAMBLE
    + _EVEN_WHEN_FULL
    + _TO_QUEUED
    + """
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
"""
)

# prefix, keep done, keep failed, most kept, newest seq or '', channel of changes, channel of finished jobs,
# then per job: id, 'done' or 'failed', signature or reason, seq or class of the error.
FINISH: Final = Script(
    _PREAMBLE
    + _EVEN_WHEN_FULL
    + _TRIM
    + """
local place = math.max(now(), tonumber(redis.call('GET', P .. 'finish_clock') or '0') + 1)
local finished = {}
for i = 8, #ARGV, 4 do
  local id, state, key = ARGV[i], ARGV[i + 1], P .. 'job:' .. ARGV[i]
  redis.call('DEL', P .. 'payload:' .. id)
  local job = redis.call('HMGET', key, 'state', 'bytes')
  if is_open(job[1]) then
    redis.call('DECRBY', P .. 'bytes', job[2])
    for _, list in ipairs({'waiting', 'due', 'jobs:queued', 'jobs:running'}) do
      redis.call('ZREM', P .. list, id)
    end
    redis.call('HDEL', key, 'attempts', 'deferrals', 'bytes')
    redis.call('HSET', key, 'state', state, 'updated', text(place))
    if state == 'failed' then
      redis.call('HSET', key, 'reason', ARGV[i + 2], 'error', ARGV[i + 3])
    else
      redis.call('HSET', key, 'signature', ARGV[i + 2], 'seq', ARGV[i + 3])
    end
    redis.call('ZADD', P .. 'jobs:' .. state, text(place), id)
    place = place + 1
    finished[#finished + 1] = id
  end
end
redis.call('SET', P .. 'finish_clock', text(place))
trim('done', tonumber(ARGV[2]), tonumber(ARGV[4]), 2 * #ARGV)
trim('failed', tonumber(ARGV[3]), tonumber(ARGV[4]), 2 * #ARGV)
if ARGV[5] ~= '' then redis.call('PUBLISH', ARGV[6], ARGV[5]) end
if #finished > 0 then redis.call('PUBLISH', ARGV[7], table.concat(finished, ' ')) end
return #finished
"""
)

# prefix, keep done, keep failed, most kept, patience, limit, key of the queue, name of the worker. Answers
# the ids to be sent now. A message is lost when its job is overdue with a worker, or when messages sent long
# after it have been started (the queue is first in, first out), or when it is old and the queue is empty. Age
# alone proves nothing: a long queue is no loss, and sending it again would make it longer.
SWEEP: Final = Script(
    _PREAMBLE
    + _EVEN_WHEN_FULL
    + _TRIM
    + _TO_QUEUED
    + """
local t, limit = now(), tonumber(ARGV[6])
redis.call('ZADD', P .. 'workers', text(t), ARGV[8])
redis.call('ZREMRANGEBYSCORE', P .. 'workers', '-inf', text(t - 300 * 1000000))
local horizon = t
if redis.call('LLEN', ARGV[7]) > 0 then
  horizon = math.min(t, tonumber(redis.call('GET', P .. 'delivered') or '0'))
end
local found = redis.call('ZRANGEBYSCORE', P .. 'due', '-inf', text(t), 'LIMIT', 0, limit)
local before = text(horizon - tonumber(ARGV[5]))
local lost = redis.call('ZRANGEBYSCORE', P .. 'waiting', '-inf', before, 'LIMIT', 0, limit)
for _, id in ipairs(lost) do found[#found + 1] = id end
local answer = {}
for _, id in ipairs(found) do
  redis.call('ZREM', P .. 'due', id)
  redis.call('ZREM', P .. 'waiting', id)
  if is_open(redis.call('HGET', P .. 'job:' .. id, 'state')) then
    to_queued(id)
    redis.call('ZADD', P .. 'waiting', text(t), id)
    answer[#answer + 1] = id
  end
end
trim('done', tonumber(ARGV[2]), tonumber(ARGV[4]), limit)
trim('failed', tonumber(ARGV[3]), tonumber(ARGV[4]), limit)
return answer
"""
)
