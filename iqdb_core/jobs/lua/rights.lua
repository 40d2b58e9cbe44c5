-- Try every command that scripts need, on keys that nothing else uses: Redis undoes nothing of a script if it
-- refuses a command half way, so it must be known before whether all are allowed. Also those that read
-- payloads and records, without which jobs would be claimed again and again in vain.
--
-- Answers for each command that was refused its name and the error.

local KEY = P .. 'tried:'
local CHANGE_NOTHING = {
  {'ZREM', 'none', ''},  -- first: then the others are allowed also when memory is full
  {'TIME'}, {'DEL', 'none'}, {'GET', 'none'}, {'EXISTS', 'none'}, {'RENAME', 'none', 'new'},
  {'HGET', 'none', ''}, {'HMGET', 'none', ''}, {'HDEL', 'none', ''}, {'PERSIST', 'none'}, {'PEXPIRE', 'none', '1'},
  {'LRANGE', 'none', '0', '0'}, {'LINDEX', 'none', '0'}, {'LLEN', 'none'}, {'LPOP', 'none'},
  {'ZCARD', 'none'}, {'ZCOUNT', 'none', '0', '0'}, {'ZADD', 'none', 'XX', '0', ''},
  {'ZRANGE', 'none', '0', '0'}, {'ZRANGEBYSCORE', 'none', '0', '0'}, {'ZREVRANGEBYSCORE', 'none', '0', '0'},
  {'ZREMRANGEBYSCORE', 'none', '0', '0'}, {'MGET', 'none'}, {'HGETALL', 'none'},
}
local LEAVE_KEYS = {{'SET', 'number', '0'}, {'INCR', 'number'}, {'HSET', 'hash', '', ''}, {'RPUSH', 'list', ''}}

local refused = {}
local function try(words)
  if words[2] then words[2] = KEY .. words[2] end
  if words[1] == 'RENAME' then words[3] = KEY .. words[3] end
  local answer = redis.pcall(unpack(words))
  if type(answer) == 'table' and answer.err and not string.find(answer.err, 'no such key', 1, true) then
    refused[#refused + 1] = words[1]
    refused[#refused + 1] = answer.err
  end
end
for _, words in ipairs(CHANGE_NOTHING) do try(words) end
local is_removed = redis.pcall('DEL', KEY .. 'none') == 0
if is_removed then
  for _, words in ipairs(LEAVE_KEYS) do try(words) end
  redis.pcall('DEL', KEY .. 'number', KEY .. 'hash', KEY .. 'list')
end
return refused
