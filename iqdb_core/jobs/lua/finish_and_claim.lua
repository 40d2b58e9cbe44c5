-- End a claim and make the next one, in one step: if only the claim ran, it would put the jobs of the last
-- one back without blame.
--
-- ARGV[2]   how many arguments of `finish` follow
-- ARGV[3..] the arguments of `finish`, then those of `claim`, both without the prefix
--
-- Answers as `claim`.

local function arguments(first, last)
  local part = {P}
  for i = first, last do part[#part + 1] = ARGV[i] end
  return part
end
local last = 2 + tonumber(ARGV[2])
run_finish(arguments(3, last))
return run_claim(arguments(last + 1, #ARGV))
