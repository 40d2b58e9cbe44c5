-- End the claim of a claimant that is known to have died, before its lease runs out.
--
-- ARGV[2]   claimant

even_when_full()
give_back(ARGV[2], true)
return redis.status_reply('OK')
