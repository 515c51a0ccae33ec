-- Lets go of a lease, so that the next sweep takes the reservation over at once.
--
-- KEYS[1]  the reservation
-- KEYS[2]  the slot's open reservations
-- ARGV[1]  the reservation's member in KEYS[2]

if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'owner', '', 'lease', '0')
  redis.call('ZADD', KEYS[2], '0', ARGV[1])
end
