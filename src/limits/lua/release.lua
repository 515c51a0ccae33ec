-- Takes back what a reservation holds in one slot and forgets it. A settled one stays settled.
--
-- KEYS[1]  the reservation
-- KEYS[2]  what it holds
-- KEYS[3]  the slot's open reservations
-- KEYS[4..] the buckets that it holds
--
-- ARGV[1]  the reservation's member in KEYS[3]
-- ARGV[2]  what is still to do in everyone's slot: 'ask' (as the reservation says) or 'done'
--
-- Answers {'everyone'}: nothing was done, everyone's slot comes first
--      or {'buckets', ...}: nothing was done, KEYS must name these too
--      or {'released'}

if ARGV[2] == 'ask' and redis.call('HGET', KEYS[1], 'everyone') == '1' then
  return {'everyone'}
end
local held, unnamed = holds_of(KEYS[2], 4)
if #unnamed > 0 then
  return {'buckets', unpack(unnamed)}
end
for bucket, amount in pairs(held) do
  take_back(bucket, amount)
end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
return {'released'}
