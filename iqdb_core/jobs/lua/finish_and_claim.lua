-- End a claim and make the next one, in one step: a claim whose end did not run would put its jobs back as if
-- nobody were to blame.
--
-- ARGV[2]   how many words of `finish` follow
-- ARGV[3..] the words of `finish`, then those of `claim`, both without the prefix
--
-- Answers as `claim`.

local function words(first, last)
  local part = {P}
  for i = first, last do part[#part + 1] = ARGV[i] end
  return part
end
local last = 2 + tonumber(ARGV[2])
run_finish(words(3, last))
return run_claim(words(last + 1, #ARGV))
