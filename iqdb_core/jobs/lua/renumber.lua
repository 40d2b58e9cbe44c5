-- Number writes anew that the store found stale only because another clock had counted further than this one.
--
-- ARGV[2]   newest revision of the store
-- ARGV[3..] per write: its revision, the newer one that it met
--
-- What a write met is another clock's if it is above all that was given out here, and ahead of the time: then
-- all that was given out here and may still be written moves up by as much, in its order, and the clock goes
-- on from there. Who was moved by then, and meets one that was, has to move as well.
--
-- Answers per write its new revision; '' where a newer one of ours is there, or one that was written later.

even_when_full()
local MOST_SHIFTS = 16
local t = now()
local clock = tonumber(redis.call('GET', P .. 'clock') or '0')
local newest = tonumber(ARGV[2])

local function oldest_of(state)
  local first = redis.call('ZRANGE', P .. 'jobs:' .. state, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) or math.huge
end

local function shifted(revision, met)
  for _, shift in ipairs(redis.call('LRANGE', P .. 'shifts', 0, -1)) do
    local last, by = string.match(shift, '^(%d+) (%d+)$')
    if revision <= tonumber(last) and met > tonumber(last) and revision + tonumber(by) > met then
      return revision + tonumber(by)
    end
  end
end

local function renumbered(revision, met)
  local is_beyond = met > math.max(clock, t)
  local is_tie = met == revision and revision > t
  if not is_beyond and not is_tie then return shifted(revision, met) end
  local by = newest + 1 - math.min(revision, oldest_of('queued'), oldest_of('running'))
  local last = math.max(clock, revision)
  redis.call('LPUSH', P .. 'shifts', text(last) .. ' ' .. text(by))
  redis.call('LTRIM', P .. 'shifts', 0, MOST_SHIFTS - 1)
  clock = last + by
  redis.call('SET', P .. 'clock', text(clock))
  return revision + by
end

local answer = {}
for i = 3, #ARGV, 2 do
  local revision = renumbered(tonumber(ARGV[i]), tonumber(ARGV[i + 1]))
  answer[#answer + 1] = revision and text(revision) or ''
end
return answer
