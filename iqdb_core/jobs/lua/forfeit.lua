-- End the claim of a claimant that has died, before its lease runs out.
--
-- ARGV[2]   claimant
-- ARGV[3]   pause of a job whose claimant died twice, microseconds

even_when_full()
note_busy(ARGV[2])
give_back(ARGV[2], tonumber(ARGV[3]))
return redis.status_reply('OK')
