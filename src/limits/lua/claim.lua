-- Takes over reservations whose lease has lapsed. Another replica may have been faster; those are left alone.
--
-- KEYS[1]  the slot's open reservations
-- KEYS[2..] the reservations
--
-- ARGV[1]  now, in ms since 1970
-- ARGV[2]  the new owner
-- ARGV[3]  the end of its leases, in ms since 1970
-- then for each reservation its member in KEYS[1]
--
-- Answers {index, stage, fence, record} of each that was taken.

local taken = {}
for i = 2, #KEYS do
  local member = ARGV[2 + i]
  local found = redis.call('HMGET', KEYS[i], 'lease', 'stage', 'record')
  if not found[1] then
    redis.call('ZREM', KEYS[1], member)
  elseif tonumber(found[1]) <= tonumber(ARGV[1]) then
    local fence = redis.call('HINCRBY', KEYS[i], 'fence', '1')
    redis.call('HSET', KEYS[i], 'owner', ARGV[2], 'lease', ARGV[3])
    redis.call('ZADD', KEYS[1], ARGV[3], member)
    taken[#taken + 1] = {i - 1, found[2], fence, found[3]}
  end
end
return taken
