"""What runs inside Valkey: many limits and remembered answers in one round trip.

Kept in a module of its own so that a reader finds the script beside nothing else. It uses only what
Redis 7 and Valkey 8 share (EVALSHA, cmsgpack), and touches keys that it gets in its one argument: all
of them live on one server (a Valkey cluster is not supported; Valkey is an accelerator here).
"""

from typing import Final

# The argument is a msgpack list of asks:
#   {"take", subject, interval_us, burst, remembered key or ""}
#   {"give", subject, interval_us}                 a slot comes back (RULES 13)
#   {"keep", remembered key, text, seconds}        an answer to replay
# The answer is a msgpack list, for each ask: {allowed, remaining, reset_us, retry_us, text or false}.
# The arithmetic is that of api/gcra.py, line by line.
LIMIT_SCRIPT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answers = {}
local function store(subject, tat)
    redis.call('SET', subject, string.format('%.3f', tat), 'PX', math.ceil((tat - now) / 1000) + 1000)
end
for i, ask in ipairs(cmsgpack.unpack(ARGV[1])) do
    local answer = {true, 0, 0, 0, false}
    if ask[1] == 'keep' then
        redis.call('SET', ask[2], ask[3], 'EX', ask[4])
    else
        local interval = ask[3]
        local tat = tonumber(redis.call('GET', ask[2]) or '0')
        if ask[1] == 'give' then
            if tat - interval > now then store(ask[2], tat - interval) else redis.call('DEL', ask[2]) end
        else
            local found = math.max(tat, now)
            local after = found + interval
            local room = ask[4] * interval - (after - now)
            if room < 0 then
                answer = {false, 0, found - now, -room, false}
            else
                store(ask[2], after)
                answer = {true, math.floor(room / interval), after - now, 0, false}
            end
            if ask[5] ~= '' then answer[5] = redis.call('GET', ask[5]) end
        end
    end
    answers[i] = answer
end
return cmsgpack.pack(answers)
"""
