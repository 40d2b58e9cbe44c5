-- Claim jobs, with a lease: a claimant that neither finishes nor claims again before it runs out is taken for
-- dead.
--
-- ARGV[2]   id of the store that the claimant writes to
-- ARGV[3]   claimant
-- ARGV[4]   ticket: new for each claim, the same when a script is sent again because its answer was lost
-- ARGV[5]   lease, microseconds
-- ARGV[6]   most jobs
-- ARGV[7]   most bytes of payloads, except that one job is always given
-- ARGV[8]   pause of a job whose claimant died twice, microseconds
-- ARGV[9]   how long the claimant listens if it gets nothing, microseconds; 0: it does not
-- ARGV[10]  how old the oldest of a few bulk jobs must be before they are claimed, microseconds
--
-- Suspects come first, one at a time, each alone; then the interactive lane; then bulk. While other jobs wait,
-- only every second claim is of a suspect, which may kill its process, too; and every fourth is of bulk, so
-- that its oldest job never starves. A claim is of one lane: no client waits for the bulk images of others.
--
-- Answers {jobs still waiting, {id, kind, image id, revision, attempts, deferrals, source, '1' if it must
-- replace no image, else ''}...} or {'foreign'}.

even_when_full()
if is_foreign(ARGV[2]) then return {'foreign'} end
local SUSPECT_TURN, BULK_TURN = 2, 4
local linger, gather = tonumber(ARGV[9]), tonumber(ARGV[10])
local t, claimant, holder = now(), ARGV[3], ARGV[3] .. ' ' .. ARGV[4]
local answer = {0}

local function row(id, job)
  return {id, job[2], job[3], job[4], job[5] or '0', job[6] or '0', job[8] or '', job[10] or ''}
end
local function read(id)
  return redis.call('HMGET', P .. 'job:' .. id, 'state', 'kind', 'image_id', 'revision', 'attempts',
    'deferrals', 'bytes', 'source', 'holder', 'if_absent')
end

note_busy(claimant)
local open = redis.call('LRANGE', P .. 'claim:' .. claimant, 0, -1)
if open[1] == ARGV[4] then
  for i = 2, #open do
    local job = read(open[i])
    if job[1] == 'running' and job[9] == holder then
      if job[2] == 'image' then job[5] = text(tonumber(job[5]) - 1) end
      answer[#answer + 1] = row(open[i], job)
    end
  end
  if #answer > 1 then
    answer[1] = count_claimable(t)
    return answer
  end
end
if open[1] then give_back(claimant) end  -- it lives, and has given that claim up

for _, dead in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', text(t), 'LIMIT', 0, 8)) do
  give_back(dead, tonumber(ARGV[8]))
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'later', '-inf', text(t), 'LIMIT', 0, 256)) do
  local job = redis.call('HMGET', P .. 'job:' .. id, 'state', 'attempts')
  if job[1] == 'queued' then to_queued(id, tonumber(job[2] or '0')) end
  redis.call('ZREM', P .. 'later', id)  -- last: until it is in a lane it is found only here
end

-- The suspect to claim, if any: that with the fewest deaths, since most only happened to be there when a
-- process died.
local function next_suspect()
  local found, fewest = {}, math.huge
  if is_suspect_in_hand() then return found end
  for _, id in ipairs(redis.call('ZRANGE', P .. 'lane:suspect', 0, CLAIM_JOBS - 1)) do
    local attempts = tonumber(redis.call('HGET', P .. 'job:' .. id, 'attempts') or '0')
    if attempts < fewest then found, fewest = {id}, attempts end
  end
  return found
end

local taken, jobs = {}, {}
local function take(lane, ids)
  local held = 0
  for _, id in ipairs(ids) do
    local job = read(id)
    if job[1] == 'queued' then
      held = held + tonumber(job[7] or '0')
      if #taken > 0 and held > tonumber(ARGV[7]) then break end
      taken[#taken + 1] = id
      jobs[#jobs + 1] = job
      answer[#answer + 1] = row(id, job)
    else
      redis.call('ZREM', P .. lane, id)
    end
  end
  if #taken == 0 then return end
  if lane == 'lane:suspect' then redis.call('SET', P .. 'suspect', holder) end
  -- Lease, claim, jobs, in this order, since Redis undoes nothing if it refuses a command half way: a job is
  -- put back by the claim that lists it, and a claim is found by its lease.
  redis.call('ZADD', P .. 'leases', text(t + tonumber(ARGV[5])), claimant)
  redis.call('RPUSH', P .. 'claim:' .. claimant, ARGV[4], unpack(taken))
  for i, id in ipairs(taken) do
    local attempts = tonumber(jobs[i][5] or '0')
    if jobs[i][2] == 'image' then attempts = attempts + 1 end  -- other kinds cannot kill their process
    redis.call('HSET', P .. 'job:' .. id, 'state', 'running', 'holder', holder, 'attempts', text(attempts))
    redis.call('ZADD', P .. 'jobs:running', jobs[i][4], id)
  end
  redis.call('ZREM', P .. lane, unpack(taken))
  redis.call('ZREM', P .. 'jobs:queued', unpack(taken))
end

-- A few bulk jobs that have just come wait for more: a claim, its transaction and its end cost as much for
-- one image as for many.
local function is_gathering(lane)
  if gather == 0 or lane ~= 'lane:bulk' then return false end
  if redis.call('ZCARD', P .. lane) >= tonumber(ARGV[6]) then return false end
  local oldest = redis.call('ZRANGE', P .. lane, 0, 0, 'WITHSCORES')[2]
  return oldest and tonumber(oldest) > t - gather and tonumber(oldest) <= t
end

local waiting = count_claimable(t)  -- first: refused later, it would leave claimed jobs behind
local has_more = false
local filled = 0
for _, lane in ipairs(LANES) do
  if redis.call('ZCARD', P .. lane) > 0 then filled = filled + 1 end
end
local turn = filled > 1 and redis.call('INCR', P .. 'turn') or 1
local order = {'lane:interactive', 'lane:bulk'}
if turn % BULK_TURN == 0 then order = {'lane:bulk', 'lane:interactive'} end
table.insert(order, turn % SUSPECT_TURN == 0 and 3 or 1, 'lane:suspect')
for _, lane in ipairs(order) do
  if #taken == 0 then
    if is_gathering(lane) then
      has_more = true
    elseif lane == 'lane:suspect' then
      take(lane, next_suspect())
    else
      take(lane, redis.call('ZRANGE', P .. lane, 0, tonumber(ARGV[6]) - 1))
    end
  end
end
if #taken == 0 and linger > 0 then
  if has_more then
    redis.call('ZADD', P .. 'woken', text(t + gather + WOKEN_US), claimant)
  else
    redis.call('ZADD', P .. 'idle', text(t + linger), claimant)
  end
end
answer[1] = math.max(0, waiting - #taken)
return answer
