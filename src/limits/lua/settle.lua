-- Takes back what a reservation holds in one slot and adds what was really used, once.
--
-- KEYS[1]  the reservation
-- KEYS[2]  what it holds
-- KEYS[3]  the marker of a settled reservation
-- KEYS[4]  the slot's open reservations
-- KEYS[5]  the slot's books: a hash of cut, proposed, count, settled (see count.lua)
-- KEYS[6..] the buckets: all that it holds, and all that are charged
--
-- ARGV[1]  the reservation's member in KEYS[4]
-- ARGV[2]  how long it is remembered that it was settled, in seconds
-- ARGV[3]  what is still to do in everyone's slot: 'ask' (as the reservation says), 'first' or 'done'
-- ARGV[4]  when its id was made, in ms since 1970
-- ARGV[5]  1 where its rows were counted since they are durable, else 0
-- ARGV[6]  1 where books that were never counted are lost, 0 where they begin empty
-- then for each bucket: the amount used ('0' where it is only held), and the expiry in s of a new counter
--
-- Answers {'already'}
--      or {'everyone'}: nothing was done, everyone's slot comes first
--      or {'buckets', ...}: nothing was done, KEYS must name these too
--      or {'lost'}: nothing was done, the counters must be restored first
--      or {'by rows'}: nothing was done, it is from before the cut and its rows must be counted first
--      or {'counted'}

if redis.call('EXISTS', KEYS[3]) == 1 then
  return {'already'}
end
if ARGV[3] == 'first' or (ARGV[3] == 'ask' and redis.call('HGET', KEYS[1], 'everyone') == '1') then
  return {'everyone'}
end
local cut = redis.call('HGET', KEYS[5], 'cut')
if not cut and ARGV[6] == '1' then
  return {'lost'}
end
cut = cut or '0'
local is_by_rows = tonumber(ARGV[4]) < tonumber(cut)
if is_by_rows and ARGV[5] == '0' then
  return {'by rows'}
end
local held, unnamed = holds_of(KEYS[2], 6)
if #unnamed > 0 then
  return {'buckets', unpack(unnamed)}
end

for bucket, amount in pairs(held) do
  take_back(bucket, amount)
end
for i = 6, #KEYS do
  settle_to(KEYS[i], cut, tonumber(ARGV[2 * i - 5]), is_by_rows, ARGV[2 * i - 4])
end
if #KEYS > 5 then
  redis.call('HINCRBY', KEYS[5], 'settled', '1')
  redis.call('EXPIRE', KEYS[5], BOOKS_KEPT)
end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('SET', KEYS[3], '1', 'EX', ARGV[2])
return {'counted'}
