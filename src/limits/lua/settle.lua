-- Takes back what a reservation holds in one slot and adds what was really used, once.
--
-- KEYS[1]  the reservation
-- KEYS[2]  what it holds
-- KEYS[3]  the marker of a settled reservation
-- KEYS[4]  the slot's open reservations
-- KEYS[5..] the buckets: all that it holds, and all that are charged
--
-- ARGV[1]  the reservation's member in KEYS[4]
-- ARGV[2]  how long it is remembered that it was settled, in seconds
-- ARGV[3]  what is still to do in everyone's slot: 'ask' (as the reservation says), 'first' or 'done'
-- then for each bucket: the amount used ('0' where it is only held), and the expiry in s of a new counter
--
-- Answers {'already'}
--      or {'everyone'}: nothing was done, everyone's slot comes first
--      or {'buckets', ...}: nothing was done, KEYS must name these too
--      or {'counted'}

if redis.call('EXISTS', KEYS[3]) == 1 then
  return {'already'}
end
if ARGV[3] == 'first' or (ARGV[3] == 'ask' and redis.call('HGET', KEYS[1], 'everyone') == '1') then
  return {'everyone'}
end
local held, unnamed = holds_of(KEYS[2], 5)
if #unnamed > 0 then
  return {'buckets', unpack(unnamed)}
end

for bucket, amount in pairs(held) do
  take_back(bucket, amount)
end
for i = 5, #KEYS do
  add_used(KEYS[i], tonumber(ARGV[2 * i - 6]), ARGV[2 * i - 5])
end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('SET', KEYS[3], '1', 'EX', ARGV[2])
return {'counted'}
