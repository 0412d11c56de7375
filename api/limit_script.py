"""What runs inside Valkey: the asks of many subjects in one round trip.

Kept in a module of its own so that a reader finds the script beside nothing else. It uses only what
Redis 7 and Valkey 8 share (EVALSHA, cmsgpack), and touches keys that it gets in its one argument: all of
one hash slot when it is a cluster (``limit_shards``).
"""

from typing import Final

# The argument is a msgpack list of asks, each {subject, interval_us, burst, wanted, returned}: slots that
# come back unused, and slots that are wanted; either may be 0.
# The answer is a msgpack list, for each ask: {granted, remaining, reset_us, retry_us}.
# The arithmetic is that of shared/runtime/gcra.py.
LIMIT_SCRIPT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answers = {}
for i, ask in ipairs(cmsgpack.unpack(ARGV[1])) do
    local subject, interval, burst, wanted = ask[1], ask[2], ask[3], ask[4]
    local known = math.min(tonumber(redis.call('GET', subject) or '0'), now + burst * interval)
    local found = math.max(known - ask[5] * interval, now)
    local room = burst * interval - (found - now)
    local granted = math.min(wanted, math.floor(room / interval))
    if granted < 0 then granted = 0 end
    local tat = found + granted * interval
    if tat > now then
        redis.call('SET', subject, string.format('%.3f', tat), 'PX', math.ceil((tat - now) / 1000) + 1000)
    else
        redis.call('DEL', subject)
    end
    local retry = 0
    if granted == 0 and room < interval then retry = interval - room end
    answers[i] = {granted, math.max(0, math.floor(room / interval) - granted), tat - now, retry}
end
return cmsgpack.pack(answers)
"""
