-- Reserves all or nothing over every bucket of one slot, and writes the reservation down.
--
-- KEYS[1]  the reservation: a hash of room, stage, owner, fence, lease, record, everyone
-- KEYS[2]  what it holds: a hash of bucket -> amount
-- KEYS[3]  the marker of a settled reservation
-- KEYS[4]  the slot's open reservations: a sorted set by the end of their lease, in ms
-- KEYS[5]  the slot's books: a hash of cut, proposed, count, settled (see count.lua)
-- KEYS[6..] the buckets
--
-- ARGV[1]  the reservation's member in KEYS[4]
-- ARGV[2]  the end of its lease, in ms since 1970
-- ARGV[3]  its owner
-- ARGV[4]  its record
-- ARGV[5]  the room wanted, in tokens
-- ARGV[6]  the least room worth admitting with
-- ARGV[7]  how long the reservation is kept, in seconds
-- ARGV[8]  1 where the reservation has another half in everyone's slot, else 0
-- ARGV[9]  1 where books that were never counted are lost, 0 where they begin empty
-- then for each bucket: enforced limit or '', shadow limit or '', fixed amount, amount per token of room, expiry in s
--
-- Answers {'settled'}
--      or {'again', room, ARGV[8] of the first time}
--      or {'lost'}: nothing was done, the counters must be restored first
--      or {'refused', index of the bucket, used, held}
--      or {'admitted', room, (index, used, held) of each shadow limit that would have refused ...}

local FIRST, WIDTH = 10, 5

if redis.call('EXISTS', KEYS[3]) == 1 then
  return {'settled'}
end
local before = redis.call('HMGET', KEYS[1], 'room', 'everyone')
if before[1] then
  return {'again', before[1], before[2]}
end
if ARGV[9] == '1' and redis.call('HEXISTS', KEYS[5], 'cut') == 0 then
  return {'lost'}
end

local room, least = tonumber(ARGV[5]), tonumber(ARGV[6])
local answer = {'admitted', ''}
local charges = {}
for i = 1, #KEYS - 5 do
  local at = FIRST + (i - 1) * WIDTH
  local used, held, is_new = level(KEYS[5 + i])
  local fixed, per_room = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  charges[i] = {fixed = fixed, per_room = per_room, held = held, is_new = is_new, ttl = ARGV[at + 4]}
  if ARGV[at] ~= '' then
    local left = tonumber(ARGV[at]) - used - held - fixed
    if left < per_room * least then
      return {'refused', i, digits(used), digits(held)}
    end
    if per_room > 0 then
      local fits = math.floor(left / per_room)
      if fits * per_room > left then
        fits = fits - 1 -- the quotient was rounded up
      end
      room = math.min(room, fits)
    end
  end
  if ARGV[at + 1] ~= '' and tonumber(ARGV[at + 1]) - used - held - fixed < per_room * least then
    answer[#answer + 1] = i
    answer[#answer + 1] = digits(used)
    answer[#answer + 1] = digits(held)
  end
end

for i, charge in ipairs(charges) do
  local amount = math.min(charge.fixed + charge.per_room * room, LARGEST)
  local added = add_to(KEYS[5 + i], 'held', charge.held, charge.is_new, amount, charge.ttl)
  redis.call('HSET', KEYS[2], KEYS[5 + i], digits(added))
end
if #charges > 0 then
  redis.call('EXPIRE', KEYS[2], ARGV[7])
end
redis.call('HSET', KEYS[1], 'room', digits(room), 'stage', 'held', 'owner', ARGV[3], 'fence', '1', 'lease', ARGV[2],
  'record', ARGV[4], 'everyone', ARGV[8])
redis.call('EXPIRE', KEYS[1], ARGV[7])
redis.call('ZADD', KEYS[4], ARGV[2], ARGV[1])
redis.call('EXPIRE', KEYS[4], ARGV[7])
answer[2] = digits(room)
return answer
