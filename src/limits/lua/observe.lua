-- What is used of some counters of one slot, and whether anything of the slot moves.
--
-- KEYS[1]  the slot's books
-- KEYS[2]  the slot's open reservations
-- KEYS[3..] buckets
-- ARGV[1]  1 where books that were never counted are lost, 0 where they begin empty
--
-- Answers {'lost'}
--      or {cut, how many reservations were settled, how many are open, what is used of each bucket ...}; '' stands for one
--         to which nothing was settled since the cut

local books = redis.call('HMGET', KEYS[1], 'cut', 'settled')
if ARGV[1] == '1' and not books[1] then
  return {'lost'}
end
local cut = books[1] or '0'
local answer = {cut, books[2] or '0', digits(redis.call('ZCARD', KEYS[2]))}
for i = 3, #KEYS do
  local found = redis.call('HMGET', KEYS[i], 'used', 'cut')
  answer[i + 1] = found[2] == cut and found[1] or ''
end
return answer
