-- Give new revisions to writes that the store found stale only because another clock was ahead of this one.
--
-- ARGV[2]   newest revision of the store
-- ARGV[3..] per write: id of its image, its revision as it was given out, the one that it met
--
-- The revision that a write met is another clock's if it is ahead of the time, and was not given out here, or
-- was given to another image (both clocks count on while they are ahead). Then all revisions that were given
-- out here and may still be written are shifted, in their order, beyond those of the store, and the clock
-- goes on from there. A write that an earlier shift has moved beyond what it met gets that place. The place
-- of a revision follows from all shifts since it was given out, so whoever asks twice gets the same answer.
--
-- Answers per write its new revision; '' if it met a newer write of ours, or one that was written later.

even_when_full()
local t = now()
local clock = tonumber(redis.call('GET', P .. 'clock') or '0')
local newest = tonumber(ARGV[2])
local shifts = {}
for i, shift in ipairs(redis.call('LRANGE', P .. 'shifts', 0, -1)) do
  local last, by = string.match(shift, '^(%d+) (%d+)$')
  shifts[i] = {tonumber(last), tonumber(by)}
end

local function oldest_of(state)
  local first = redis.call('ZRANGE', P .. 'jobs:' .. state, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) or math.huge
end

-- Where a revision stands after all shifts.
local function place_of(revision)
  for _, shift in ipairs(shifts) do
    if revision <= shift[1] then revision = revision + shift[2] end
  end
  return revision
end

-- The first place beyond `met` to which a shift moved a revision that was not what was met; nil if none did.
local function place_beyond(revision, met)
  for _, shift in ipairs(shifts) do
    if revision <= shift[1] then
      revision = revision + shift[2]
      if met > shift[1] and revision > met then return revision end
    end
  end
end

-- Whether a revision was given out here to a write of another image. An equal revision counts as such: a
-- write that met itself is not asked about.
local function is_of_another(revision, met, image)
  if met == revision then return true end
  local id = redis.call('ZRANGEBYSCORE', P .. 'jobs', text(met), text(met), 'LIMIT', 0, 1)[1]
  return id and redis.call('HGET', P .. 'job:' .. id, 'image_id') ~= image
end

local function renumbered(image, revision, met)
  if met <= t or (met <= clock and not is_of_another(revision, met, image)) then
    return place_beyond(revision, met)
  end
  local place = place_of(revision)
  local oldest = math.min(revision, oldest_of('queued'), oldest_of('running'))
  local last = math.max(clock, place)
  local by = math.max(newest, last) + 1 - place_of(oldest)
  while shifts[1] and shifts[1][1] < oldest do  -- no open job is left that it moves
    table.remove(shifts, 1)
    redis.call('LPOP', P .. 'shifts')
  end
  shifts[#shifts + 1] = {last, by}
  clock = last + by
  redis.call('SET', P .. 'clock', text(clock))
  redis.call('RPUSH', P .. 'shifts', text(last) .. ' ' .. text(by))
  return place + by
end

local answer = {}
for i = 3, #ARGV, 3 do
  local revision = renumbered(ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]))
  answer[#answer + 1] = revision and text(revision) or ''
end
return answer
