-- Questions that change nothing. ARGV: what is asked, then its words.

local base = KEYS[1]

local function statistics_of(address)
  local packed = redis.call('GET', base .. 'm:' .. address)
  if not packed then return false end
  local M = cmsgpack.unpack(packed)
  return {address, M.n + M.z, redis.call('HLEN', base .. 'f:' .. address), M.b, M.s, M.d}
end

local function names(first, last, most)
  return redis.call('ZRANGEBYLEX', base .. 'names', first, last, 'LIMIT', 0, most)
end

-- Up to `most` that wait, with numbers behind `after`, not in order: {k, body, counts}
local function peek(address, after, most)
  local packed = redis.call('GET', base .. 'm:' .. address)
  if not packed then return {} end
  local M, found = cmsgpack.unpack(packed), {}
  local function body_of(k)
    local item = redis.call('XRANGE', base .. 's' .. (k % 10) .. ':' .. address, k .. '-0', k .. '-0')[1]
    return item and item[2][2] or redis.call('HGET', base .. 'e:' .. address, k)
  end
  for _, kind in ipairs({'r', 'z'}) do
    for _, name in ipairs(redis.call('ZRANGE', base .. kind .. ':' .. address, 0, -1)) do
      local k = tonumber(name)
      local seq = math.floor(k / 10)
      if seq > after then
        found[#found + 1] = {k, body_of(k) or '', redis.call('HGET', base .. 'c:' .. address, k) or '0 0 1'}
      end
    end
  end
  for lane = 0, 9 do
    local state = M.L[lane + 1]
    if state and state.n > 0 then
      local first = math.max(state.c, after * 10 + 9) + 1
      local items = redis.call('XRANGE', base .. 's' .. lane .. ':' .. address, first .. '-0', '+', 'COUNT', most)
      for _, item in ipairs(items) do
        found[#found + 1] = {tonumber(string.match(item[1], '^%d+')), item[2][2] or '', ''}
      end
    end
  end
  return found
end

local asked = ARGV[1]
if asked == 'names' then return names(ARGV[2], ARGV[3], ARGV[4]) end
if asked == 'peek' then return peek(ARGV[2], tonumber(ARGV[3]), ARGV[4]) end
local found = {}
for number = 2, #ARGV do found[number - 1] = statistics_of(ARGV[number]) end
return found
