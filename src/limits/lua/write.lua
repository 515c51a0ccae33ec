-- Replaces the record and stage of an open reservation.
--
-- KEYS[1]  the reservation
-- ARGV[1]  its stage: held or forwarded
-- ARGV[2]  its record

if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'stage', ARGV[1], 'record', ARGV[2])
end
