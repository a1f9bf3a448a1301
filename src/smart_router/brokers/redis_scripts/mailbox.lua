-- One mailbox of this partition. All keys begin with `base`, the prefix with the partition's tag in braces; the address
-- is the last part of a key, so no two mailboxes share one. Nothing of a message or address becomes Lua text.
--
--   m:  what is known of it (packed): n waiting, b bytes, r returned, z delayed, s subscriptions, L lanes: c cursor,
--       n waiting behind it; h hungry takers; i idle ms, d durable, e exclusive, t takes, u due, q quiet until, a aside, w takers were woken
--   s0: … s9:  a stream per priority, made on use; an entry's id is its number k = seq * 10 + priority
--   f:  in flight: k -> "life order"          r:  returned: k by order       z:  delayed: k by time
--   x:  waiting ones that expire: k by time   c:  core's counts of returned ones     l:  tickets of subscriptions
--   k:  supersede key -> k of the one that waits       e:  bodies that are out of their stream
-- And of the partition: p counters, lease, names, due, told, saved:life, t:life, d:dedup, dl.

local base = KEYS[1]
local call = cmsgpack.unpack(ARGV[1])
local prefix, life, now = call.prefix, call.life, call.now
local node = string.match(life, '^[^.]+')
local counters = {seq = 0, order = 0}
local counted = false

local function mailbox_key(kind, S) return base .. kind .. ':' .. S.address end
local function lane_of(k) return k % 10 end
local function stream(S, lane) return base .. 's' .. lane .. ':' .. S.address end

-- Splits long lists: Lua's stack has an end.
local function in_parts(command, key, list)
  local size = #list
  if size == 0 then return 0 end
  if size <= 1000 then return redis.call(command, key, unpack(list)) end
  local sum = 0
  for first = 1, size, 1000 do
    local answer = redis.call(command, key, unpack(list, first, math.min(first + 999, size)))
    if type(answer) == 'number' then sum = sum + answer end
  end
  return sum
end

-- version, flags (1: supersedes), size that counts against limits, deadline in ms (0: never); nil: not ours
local function head_of(body)
  if #body < 14 then return nil end
  local version, flags, size, deadline = struct.unpack('>BBI4d', body)
  if version ~= 82 then return nil end
  return flags, size, deadline
end

local function supersede_key(body) return (struct.unpack('>I2c0', body, 15)) end

local opened, open_list = {}, {}

-- The mailbox as this call works on it; made if missing when there is a policy.
local function open(address, policy)
  local S = opened[address]
  if S == nil then
    S = {address = address, credit = 0, taken = {}, ended = {}, bodies = {}, flight = {}, unexpire = {}, statuses = {}}
    local packed = redis.call('GET', base .. 'm:' .. address)
    if packed then S.M = cmsgpack.unpack(packed) end
    opened[address] = S
    open_list[#open_list + 1] = S
  end
  if policy then
    local M = S.M
    if not M then
      M = {n = 0, b = 0, r = 0, z = 0, s = 0, L = {}, h = {}, i = policy[4], d = policy[5], e = policy[6],
           t = 0, u = 0, q = 0}
      if redis.call('EXISTS', base .. 'e:' .. address) == 1 then M.a = 1 end
      S.M, S.changed, S.settle = M, true, true
      redis.call('ZADD', base .. 'names', 0, address)
    elseif M.i ~= policy[4] or M.d ~= policy[5] or M.e ~= policy[6] then
      M.i, M.e, S.changed = policy[4], policy[6], true
      if M.n + M.z == 0 then M.d = policy[5] end
    end
  end
  return S
end

local function lane_state(M, lane, k)
  local state = M.L[lane + 1]
  if not state then
    state = {c = k - 1, n = 0}
    M.L[lane + 1] = state
  end
  return state
end

local function schedule(S, at)
  local M = S.M
  if M.u == 0 or at < M.u then
    M.u, S.changed = at, true
    redis.call('ZADD', base .. 'due', at, S.address)
  end
end

local function into_flight(S, k, order)
  if not order then
    order = counters.order + 1
    counters.order, counted = order, true
  end
  local flight = S.flight
  flight[#flight + 1] = k
  flight[#flight + 1] = life .. ' ' .. order
end

local function flush_flight(S)
  if #S.flight > 0 then
    in_parts('HSET', mailbox_key('f', S), S.flight)
    S.flight = {}
  end
end

local function wake(ticket, what, address)
  redis.call('PUBLISH', prefix .. 'w:' .. string.match(ticket, '^[^.]+'), what .. address)
end

-- Until one of those who were told has come, each sweep tells it again: a wake-up may be lost.
local function note_told(S)
  if not S.M.w then
    S.M.w, S.changed = 1, true
    redis.call('SADD', base .. 'told', S.address)
  end
end

local function someone_came(S)
  local M = S.M
  M.w, S.changed = nil, true
  redis.call('SREM', base .. 'told', S.address)
  for _, taker in ipairs(M.h) do taker[3] = 0 end
end

local function wake_hungry(S)
  for _, taker in ipairs(S.M.h) do
    if taker[3] == 0 and taker[1] ~= life then
      taker[3], S.changed = 1, true
      wake(taker[1], 'w', S.address)
      note_told(S)
    end
  end
end

local function wake_head(S, head)
  wake(head, 'w', S.address)
  note_told(S)
end

local function forget_hungry(S, who)
  local kept = {}
  for _, taker in ipairs(S.M.h) do
    if taker[1] ~= who then kept[#kept + 1] = taker else S.changed = true end
  end
  S.M.h = kept
end

-- Notes whether this life waits for more here.
local function note_hungry(S)
  local M = S.M
  if S.credit <= 0 or M.n > 0 then
    if #M.h > 0 then forget_hungry(S, life) end
    return
  end
  S.hungry = true
  for _, taker in ipairs(M.h) do
    if taker[1] == life then
      if taker[3] == 1 then taker[3], S.changed = 0, true end
      taker[2] = S.credit
      return
    end
  end
  M.h[#M.h + 1] = {life, S.credit, 0}
  S.changed = true
end

local function remove(S)
  local address = S.address
  for _, kind in ipairs({'m', 'r', 'z', 'x', 'c', 'k', 'l'}) do redis.call('DEL', mailbox_key(kind, S)) end
  if redis.call('EXISTS', mailbox_key('f', S)) == 0 and #S.flight == 0 then
    for lane = 0, 9 do redis.call('DEL', stream(S, lane)) end
    redis.call('DEL', mailbox_key('e', S))
  end
  redis.call('ZREM', base .. 'names', address)
  redis.call('ZREM', base .. 'due', address)
  redis.call('SREM', base .. 'told', address)
  redis.call('PUBLISH', prefix .. 'gone', address)
  S.M, S.changed, S.removed = nil, false, true
end

-- The end of this call's work on it.
local function finish(S)
  flush_flight(S)
  in_parts('ZREM', mailbox_key('x', S), S.unexpire)
  local M = S.M
  if not M then return end
  if S.reads then note_hungry(S) end
  if M.w and S.reads and (#S.taken > 0 or S.turn or (M.e == 0 and M.n == 0)) then someone_came(S) end
  if M.n > 0 and #M.h > 0 then wake_hungry(S) end
  if M.s == 0 then
    local quiet = M.i > 0 and (M.n + M.z == 0 or M.d == 0)
    if quiet and S.settle then
      M.q, S.changed = now + M.i, true
      schedule(S, M.q)
    elseif not quiet and M.q ~= 0 then
      M.q, S.changed = 0, true
    end
    if S.settle and redis.call('EXISTS', mailbox_key('f', S)) == 0 then
      redis.call('SREM', base .. 't:' .. life, S.address)
    end
  elseif M.q ~= 0 then
    M.q, S.changed = 0, true
  end
  if S.changed then redis.call('SET', mailbox_key('m', S), cmsgpack.pack(M)) end
end
