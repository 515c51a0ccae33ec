-- Begins to count the usage rows of one slot anew.
--
-- KEYS[1]  the slot's books: a hash of cut, proposed, count, settled (see count.lua)
-- ARGV[1]  the cut where the books are lost and nobody has proposed one yet, in ms since 1970
--
-- Answers the number of the count, its cut, and 1 where the books are lost, else 0. Numbers begin at the first cut, so
-- that they grow even across a loss that left some counters behind.

local cut, is_lost = redis.call('HGET', KEYS[1], 'cut'), '0'
if not cut then
  is_lost = '1'
  redis.call('HSETNX', KEYS[1], 'proposed', ARGV[1])
  redis.call('HSETNX', KEYS[1], 'count', ARGV[1])
  cut = redis.call('HGET', KEYS[1], 'proposed')
end
local number = redis.call('HINCRBY', KEYS[1], 'count', '1')
redis.call('EXPIRE', KEYS[1], BOOKS_KEPT)
return {digits(number), cut, is_lost}
