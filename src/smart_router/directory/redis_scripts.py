"""The steps of the directory that Redis does at once, in Lua. Times are Redis' own."""

from __future__ import annotations

from typing import Final

from smart_router.redis.base import Script

__all__ = ["CHANGE", "LOOK", "SWEEP"]

# KEYS: the leases (owner, end in ms) and the records of the nodes. ARGV: what to do, owner, lease in ms, record.
# Answers whether the owner is known, those whose lease has ended (they are gone with this), and all that live: owner,
# ms that are left, record, owner, …
LOOK: Final = Script(b"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ended = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE')
for _, owner in ipairs(ended) do
  redis.call('ZREM', KEYS[1], owner)
  redis.call('HDEL', KEYS[2], owner)
end
local known = redis.call('ZSCORE', KEYS[1], ARGV[2]) and 1 or 0
if ARGV[1] == 'join' or (ARGV[1] == 'report' and known == 1) then
  redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[2])
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
elseif ARGV[1] == 'leave' then
  redis.call('ZREM', KEYS[1], ARGV[2])
  redis.call('HDEL', KEYS[2], ARGV[2])
end
local live = {}
local leases = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #leases, 2 do
  live[#live + 1] = leases[i]
  live[#live + 1] = leases[i + 1] - now
  live[#live + 1] = redis.call('HGET', KEYS[2], leases[i]) or ''
end
return {known, ended, live}
""")

# KEYS: the sessions of a partition. ARGV: this node and a dot, how many actors, those actors, then `+` or `-`, a
# member, … in order. Answers the sessions of each actor on other nodes as they are then, 1,000 at most.
CHANGE: Final = Script(b"""
local mine = ARGV[1]
local actors = tonumber(ARGV[2])
for i = actors + 3, #ARGV, 2 do
  if ARGV[i] == '+' then
    redis.call('ZADD', KEYS[1], 0, ARGV[i + 1])
  else
    redis.call('ZREM', KEYS[1], ARGV[i + 1])
  end
end
local found = {}
for i = 3, actors + 2 do
  local first, last = '[' .. ARGV[i] .. ' ', '(' .. ARGV[i] .. '!'
  local others = {}
  for _, member in ipairs(redis.call('ZRANGE', KEYS[1], first, last, 'BYLEX', 'LIMIT', 0, 10000)) do
    local owner = string.match(member, '^[^ ]+ [^ ]+ ([^ ]+) ')
    if owner and string.sub(owner, 1, #mine) ~= mine and #others < 1000 then
      others[#others + 1] = member
    end
  end
  found[i - 2] = others
end
return found
""")

# KEYS: the sessions of a partition. ARGV: owners that are no more. Answers how many of their sessions went.
SWEEP: Final = Script(b"""
local dead = {}
for _, owner in ipairs(ARGV) do
  dead[owner] = true
end
local gone = 0
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if dead[string.match(member, '^[^ ]+ [^ ]+ ([^ ]+) ')] then
    gone = gone + redis.call('ZREM', KEYS[1], member)
  end
end
return gone
""")
