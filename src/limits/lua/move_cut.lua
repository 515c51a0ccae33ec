-- Moves the cut of a slot where nothing is open and nothing was settled since it was observed.
--
-- KEYS[1]  the slot's books
-- KEYS[2]  the slot's open reservations
-- ARGV[1]  the cut as it was observed, in ms since 1970
-- ARGV[2]  how many reservations were settled then
-- ARGV[3]  the new cut, in ms since 1970
--
-- Answers 1, or 0 where something moved and nothing was done.

local books = redis.call('HMGET', KEYS[1], 'cut', 'settled')
if (books[1] or '0') ~= ARGV[1] or (books[2] or '0') ~= ARGV[2] or redis.call('ZCARD', KEYS[2]) > 0 then
  return 0
end
redis.call('HSET', KEYS[1], 'cut', ARGV[3])
redis.call('EXPIRE', KEYS[1], BOOKS_KEPT)
return 1
