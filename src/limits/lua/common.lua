-- What the scripts of the Redis store share; put in front of each of them.
--
-- A counter is a hash with the fields `used` and `held`, decimal integers. Lua computes in doubles, which are exact up
-- to LARGEST; counters and amounts never pass it. Amounts are written as decimal strings with '%.0f': tostring, `..` and
-- cjson would write 1.5e+14.

local LARGEST = 9007199254740991

-- How long the books of a slot are kept after the last of what happens to them, in seconds: longer than any counter. Books
-- that are gone are restored like those that were lost.
local BOOKS_KEPT = 3456000

local function digits(amount)
  return string.format('%.0f', amount)
end

-- A counter's `used` and `held`, and whether the counter does not exist yet.
local function level(bucket)
  local fields = redis.call('HMGET', bucket, 'used', 'held')
  return tonumber(fields[1] or '0'), tonumber(fields[2] or '0'), not fields[1] and not fields[2]
end

-- Adds to a field of a counter, which stands at `before`, as much as it can count, and answers how much that was. A new
-- counter expires `ttl` seconds from now, which is some days after its period ends.
local function add_to(bucket, field, before, is_new, amount, ttl)
  local added = math.min(amount, LARGEST - before)
  if added > 0 then
    redis.call('HINCRBY', bucket, field, digits(added))
    if is_new then
      redis.call('EXPIRE', bucket, ttl)
    end
  end
  return added
end

local function add_held(bucket, amount, ttl)
  local _, held, is_new = level(bucket)
  return add_to(bucket, 'held', held, is_new, amount, ttl)
end

-- Settles an amount to a counter: adds it, unless rows count it. Until something is settled to a counter since the cut, which
-- it then bears, all it holds is its base: what rows from before the cut count.
local function settle_to(bucket, cut, amount, is_by_rows, ttl)
  local used, _, is_new = level(bucket)
  if not is_by_rows then
    add_to(bucket, 'used', used, is_new, amount, ttl)
  end
  if amount > 0 and redis.call('HGET', bucket, 'cut') ~= cut then
    redis.call('HSET', bucket, 'base', digits(used), 'cut', cut)
    if is_new then
      redis.call('EXPIRE', bucket, ttl)
    end
  end
end

-- Takes back what a reservation holds; never below zero.
local function take_back(bucket, amount)
  if amount == 0 then
    return -- '%.0f' of -0 is '-0', which is no integer to Redis
  end
  local _, held = level(bucket)
  if amount < held then
    redis.call('HINCRBY', bucket, 'held', digits(-amount))
  else
    redis.call('HDEL', bucket, 'held')
  end
end

-- What a reservation holds, bucket by bucket, and those of its buckets that `KEYS` from `first` on does not name.
local function holds_of(holds, first)
  local named, held, unnamed = {}, {}, {}
  for i = first, #KEYS do
    named[KEYS[i]] = true
  end
  local fields = redis.call('HGETALL', holds)
  for i = 1, #fields, 2 do
    held[fields[i]] = tonumber(fields[i + 1])
    if not named[fields[i]] then
      unnamed[#unnamed + 1] = fields[i]
    end
  end
  return held, unnamed
end
