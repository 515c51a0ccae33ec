-- Lowers what a fresh reservation holds, after everyone's slot had less room than its own.
--
-- KEYS[1]  the reservation
-- KEYS[2]  what it holds
-- KEYS[3..] the buckets
--
-- ARGV[1]  the room that was admitted in the end, in tokens
-- then for each bucket: what it holds with that room

if redis.call('EXISTS', KEYS[1]) == 0 then
  return
end
redis.call('HSET', KEYS[1], 'room', ARGV[1])
for i = 3, #KEYS do
  local holds, wanted = redis.call('HGET', KEYS[2], KEYS[i]), tonumber(ARGV[i - 1])
  if holds and tonumber(holds) > wanted then
    take_back(KEYS[i], tonumber(holds) - wanted)
    redis.call('HSET', KEYS[2], KEYS[i], digits(wanted))
  end
end
