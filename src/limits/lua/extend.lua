-- Raises what an open reservation holds to at least these amounts; never lowers it.
--
-- KEYS[1]  what it holds: a hash of bucket -> amount, gone where the reservation is not open
-- KEYS[2..] buckets; those that it does not hold are left alone
--
-- For each bucket in ARGV: the amount, and the expiry in s of a counter that has to be made anew.

for i = 2, #KEYS do
  local holds = redis.call('HGET', KEYS[1], KEYS[i])
  if holds then
    local amount, ttl = tonumber(ARGV[2 * i - 3]), ARGV[2 * i - 2]
    local more = amount - tonumber(holds)
    if more > 0 then
      local added = add_held(KEYS[i], more, ttl)
      redis.call('HSET', KEYS[1], KEYS[i], digits(tonumber(holds) + added))
    end
  end
end
