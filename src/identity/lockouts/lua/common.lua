-- What the scripts of counted sign-ins share; put in front of each of them.
--
-- KEYS[1]   the locks that last: a sorted set of subject -> end, in ms since 1970
-- KEYS[2..] for each subject two: its state, a hash of failures, last, lockouts, until; and its attempts that run, a sorted
--           set of id -> when the attempt counts as failed
--
-- ARGV[1]   the attempt's id
-- ARGV[2]   now, in ms since 1970
-- ARGV[3]   begin: when the attempt counts as failed, in ms since 1970; finish: how it ended
-- then for each subject: its text, 1 where it is shared, the failure that locks it, and in ms: after how long failures are
-- forgotten, how long the first lock lasts, how long the longest, and how long a lock is remembered
--
-- Lua computes in doubles; milliseconds since 1970 are far below 2^53.

local FIRST, WIDTH = 4, 7
local now = tonumber(ARGV[2])

local function digits(number)
  return string.format('%.0f', number)
end

-- How many subjects there are.
local function subjects()
  return (#KEYS - 1) / 2
end

local function subject(i)
  local at = FIRST + (i - 1) * WIDTH
  local s = {
    state = KEYS[2 * i], pending = KEYS[2 * i + 1], text = ARGV[at], shared = ARGV[at + 1] == '1', limit = tonumber(ARGV[at + 2]),
    window = tonumber(ARGV[at + 3]), lock = tonumber(ARGV[at + 4]), longest = tonumber(ARGV[at + 5]), remembered = tonumber(ARGV[at + 6]),
  }
  local fields = redis.call('HMGET', s.state, 'failures', 'last', 'lockouts', 'until')
  s.failures, s.last = tonumber(fields[1] or '0'), tonumber(fields[2] or '0')
  s.lockouts, s.ends = tonumber(fields[3] or '0'), tonumber(fields[4] or '0')
  if now - s.last > s.window then
    s.failures = 0
  end
  if now - s.ends > s.remembered then
    s.lockouts = 0
  end
  return s
end

local function write(s)
  redis.call('HSET', s.state, 'failures', digits(s.failures), 'last', digits(s.last), 'lockouts', digits(s.lockouts), 'until', digits(s.ends))
  redis.call('PEXPIRE', s.state, digits(math.max(s.window, s.ends - now + s.remembered, 1)))
end

-- Counts failures, and locks where they are enough; a lock that lasts is never shortened. What is shared stays one failure
-- away from the next lock until it has been quiet.
local function fail(s, count)
  s.failures, s.last = s.failures + count, now
  if s.failures >= s.limit then
    s.ends = math.max(s.ends, now + math.min(s.lock * 2 ^ s.lockouts, s.longest))
    s.lockouts = s.lockouts + 1
    s.failures = s.shared and s.limit - 1 or 0
    s.locked = true
    redis.call('ZADD', KEYS[1], digits(s.ends), s.text)
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', digits(now))
  end
  write(s)
end

-- Attempts whose end nobody told in time have failed.
local function count_lost(s)
  local lost = redis.call('ZREMRANGEBYSCORE', s.pending, '-inf', digits(now))
  if lost > 0 then
    fail(s, lost)
  end
end
