-- Renews leases. A lease is only ever moved forward, so that a renewal that was delayed does no harm.
--
-- KEYS[1]  the slot's open reservations
-- KEYS[2..] the reservations
--
-- ARGV[1]  their owner
-- ARGV[2]  the new end of their leases, in ms since 1970
-- then for each reservation: its member in KEYS[1], and the fencing number it was taken with
--
-- Answers the indices of those that are no longer this owner's.

local lost = {}
for i = 2, #KEYS do
  local member, fence = ARGV[2 * i - 1], ARGV[2 * i]
  local mine = redis.call('HMGET', KEYS[i], 'owner', 'fence', 'lease')
  if mine[1] ~= ARGV[1] or mine[2] ~= fence then
    lost[#lost + 1] = i - 1
  elseif tonumber(mine[3]) < tonumber(ARGV[2]) then
    redis.call('HSET', KEYS[i], 'lease', ARGV[2])
    redis.call('ZADD', KEYS[1], ARGV[2], member)
  end
end
return lost
