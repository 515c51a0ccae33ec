-- Says what usage rows from before the cut count in some counters of one slot.
--
-- Books that have no `cut` are lost: no counter of the slot is decided by or settled to. The first count proposes a cut,
-- and the last batch of any count with that cut makes it theirs. What is `used` of a counter that bears the same cut is its
-- `base`, which rows from before the cut count, and what was settled since of generations from after it; one that does not
-- bear it had nothing settled to it since. Counting again replaces the base and leaves the rest.
--
-- KEYS[1]  the slot's books: a hash of cut, proposed, count, settled
-- KEYS[2..] buckets
--
-- ARGV[1]  the number of the count
-- ARGV[2]  its cut
-- ARGV[3]  1 with the last batch of the count, else 0
-- then for each bucket: its base, and the expiry in s of a counter that has to be made anew
--
-- Answers 1, or 0 where the books have another cut by now and nothing was done.

local books = redis.call('HMGET', KEYS[1], 'cut', 'proposed')
if (books[1] or books[2]) ~= ARGV[2] then
  return 0
end
local number = tonumber(ARGV[1])
for i = 2, #KEYS do
  local base, ttl = tonumber(ARGV[2 * i]), ARGV[2 * i + 1]
  local found = redis.call('HMGET', KEYS[i], 'used', 'base', 'count', 'cut')
  if tonumber(found[3] or '0') < number then
    local settled = 0
    if found[4] == ARGV[2] then
      settled = math.max(tonumber(found[1] or '0') - tonumber(found[2] or '0'), 0)
    end
    local is_new = redis.call('EXISTS', KEYS[i]) == 0
    redis.call('HSET', KEYS[i], 'used', digits(math.min(settled + base, LARGEST)), 'base', digits(base), 'count', ARGV[1])
    if is_new then
      redis.call('EXPIRE', KEYS[i], ttl)
    end
  end
end
if ARGV[3] == '1' and not books[1] then
  redis.call('HSET', KEYS[1], 'cut', ARGV[2])
  redis.call('HDEL', KEYS[1], 'proposed')
  redis.call('EXPIRE', KEYS[1], BOOKS_KEPT)
end
return 1
