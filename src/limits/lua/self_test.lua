-- Tries everything the other scripts rely on: that scripts run, that they may write, and that amounts stay exact.
--
-- KEYS[1]  a counter of its own
-- Answers '9007199254740991'.

redis.call('DEL', KEYS[1])
add_held(KEYS[1], 150000 * 1000000000, 60)
add_held(KEYS[1], LARGEST, 60)
take_back(KEYS[1], 1)
add_held(KEYS[1], 2, 60)
local _, held = level(KEYS[1])
redis.call('DEL', KEYS[1])
return digits(held)
