-- Ends an attempt under every subject. KEYS and ARGV stand in common.lua; ARGV[3] is failed, given_back or succeeded.
--
-- Answers for each subject two: the locks that are remembered of it, and the end of the lock where this made one, else ''

local answer = {}
for i = 1, subjects() do
  local s = subject(i)
  local was_pending = redis.call('ZREM', s.pending, ARGV[1]) == 1
  count_lost(s)
  if ARGV[3] == 'failed' and was_pending then
    fail(s, 1)
  elseif ARGV[3] == 'succeeded' and not s.shared and s.failures > 0 then
    s.failures = 0
    write(s)
  end
  answer[#answer + 1] = digits(s.lockouts)
  answer[#answer + 1] = s.locked and digits(s.ends) or ''
end
return answer
