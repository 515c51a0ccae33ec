-- Reserves an attempt under every subject, or under none. KEYS and ARGV stand in common.lua.
--
-- Answers {'admitted'}
--      or {'locked', index of the subject, end of its lock}
--      or {'busy', index of the subject}

for i = 1, subjects() do
  local s = subject(i)
  count_lost(s)
  if s.ends > now then
    return {'locked', digits(i), digits(s.ends)}
  end
  if s.failures + redis.call('ZCARD', s.pending) >= s.limit then
    return {'busy', digits(i)}
  end
end
for i = 1, subjects() do
  local pending = KEYS[2 * i + 1]
  redis.call('ZADD', pending, ARGV[3], ARGV[1])
  redis.call('PEXPIRE', pending, digits(2 * (tonumber(ARGV[3]) - now)))
end
return {'admitted'}
