-- What waits: reading it, ending it, and its limits.

-- Puts what others wrote into our stream aside: with its reason to this node, and never again.
local function set_aside(S, lane, found)
  for _, item in ipairs(found) do
    redis.call('XDEL', stream(S, lane), item[1])
    S.ended[#S.ended + 1] = {0, 'F', table.concat(item[2], ' ')}
  end
end

local function is_ours(item)
  return item[2][1] == 'm' and item[2][2] and #item[2] == 2 and head_of(item[2][2]) ~= nil
end

local function add(S, lane, k, body)
  local answer = redis.pcall('XADD', stream(S, lane), k .. '-0', 'm', body)
  if type(answer) == 'table' and answer.err then
    if not string.find(answer.err, 'equal or smaller', 1, true) then error(answer.err) end
    set_aside(S, lane, redis.call('XRANGE', stream(S, lane), k, '+'))
    redis.call('XSETID', stream(S, lane), (k - 1) .. '-0')
    redis.call('XADD', stream(S, lane), k .. '-0', 'm', body)
  end
end

-- The body of k, in its stream or out of it; nil: there is none.
local function body_of(S, k)
  local body = S.bodies[k]
  if not body then
    local found = redis.call('XRANGE', stream(S, lane_of(k)), k .. '-0', k .. '-0')
    body = found[1] and found[1][2][2] or redis.call('HGET', mailbox_key('e', S), k)
    if not body then return nil end
    S.bodies[k] = body
  end
  return body
end

-- It waits no longer. `counted`: it was among those that can be delivered now.
local function uncount(S, k, body, counted)
  local M = S.M
  local flags, size, deadline = head_of(body)
  M.b, S.changed = M.b - size, true
  if counted then M.n = M.n - 1 end
  if deadline > 0 then S.unexpire[#S.unexpire + 1] = k end
  if flags % 2 == 1 then
    local key = supersede_key(body)
    if redis.call('HGET', mailbox_key('k', S), key) == tostring(k) then redis.call('HDEL', mailbox_key('k', S), key) end
  end
end

local function counts_of(S, k)
  local counts = redis.call('HGET', mailbox_key('c', S), k)
  if counts then redis.call('HDEL', mailbox_key('c', S), k) end
  return counts
end

-- Takes k out of wherever it waits. nil: it does not wait; else (body, counts, order).
local function take_out(S, k)
  local M = S.M
  local body = M and body_of(S, k)
  if not body then return nil end
  local counts, order = false, nil
  local score = M.r > 0 and redis.call('ZSCORE', mailbox_key('r', S), k)
  if score then
    redis.call('ZREM', mailbox_key('r', S), k)
    M.r, order, counts = M.r - 1, tonumber(score), counts_of(S, k) or '0 0 1'
    uncount(S, k, body, true)
    return body, counts, order
  end
  if M.z > 0 and redis.call('ZREM', mailbox_key('z', S), k) == 1 then
    M.z, counts = M.z - 1, counts_of(S, k)
    uncount(S, k, body, false)
    return body, counts, tonumber(string.match(counts, '%d+$'))
  end
  local lane = M.L[lane_of(k) + 1]
  if not lane or k <= lane.c then return nil end
  redis.call('XDEL', stream(S, lane_of(k)), k .. '-0')
  redis.call('HSET', mailbox_key('e', S), k, body)
  M.a, lane.n = 1, lane.n - 1
  uncount(S, k, body, true)
  return body, counts, nil
end

-- Out of the mailbox with a bad end: this life has it until it has remembered it elsewhere.
local function end_message(S, k, code)
  local body, counts, order = take_out(S, k)
  if not body then return false end
  into_flight(S, k, order)
  S.ended[#S.ended + 1] = {k, code, false, counts}
  redis.call('SADD', base .. 't:' .. life, S.address)
  return true
end

-- The first that waits in a lane, behind its cursor: (k, body), or nil.
local function first_of(S, lane, state)
  while true do
    local found = redis.call('XRANGE', stream(S, lane), (state.c + 1) .. '-0', '+', 'COUNT', 1)
    if not found[1] then
      S.M.n, state.n, S.changed = S.M.n - state.n, 0, true
      return nil
    end
    if is_ours(found[1]) then
      local k = tonumber(string.match(found[1][1], '^%d+'))
      S.bodies[k] = found[1][2][2]
      return k
    end
    set_aside(S, lane, found)
  end
end

-- The oldest of all that can be dropped; what came back only when nothing else waits.
local function oldest(S)
  local M, best = S.M, nil
  for lane = 0, 9 do
    local state = M.L[lane + 1]
    if state and state.n > 0 then
      local k = first_of(S, lane, state)
      if k and (not best or k < best) then best = k end
    end
  end
  if not best and M.r > 0 then
    local found = redis.call('ZRANGE', mailbox_key('r', S), 0, 0)
    best = found[1] and tonumber(found[1])
  end
  return best
end

-- Limits count what waits, not what a subscription has room for.
local function is_over(S, size, policy)
  local M = S.M
  local room = S.credit
  for _, taker in ipairs(M.h) do
    if taker[1] ~= life then room = room + taker[2] end
  end
  local waiting = M.n + M.z - room
  if room > 0 and waiting <= 0 then return false end
  return (policy[1] > 0 and waiting >= policy[1]) or (policy[2] > 0 and M.b + size > policy[2])
end

local function make_room(S, size, policy)
  if policy[3] ~= 0 or (policy[2] > 0 and size > policy[2]) then return false end
  while is_over(S, size, policy) do
    local k = oldest(S)
    if not k or not end_message(S, k, 'o') then return false end
  end
  return true
end

-- One message in. h: handed to this node at once; w: waits; r: refused; d: dropped.
local function put(S, lane, body, policy)
  local M = S.M
  local k = (counters.seq + 1) * 10 + lane
  counters.seq, counted = counters.seq + 1, true
  if M.n == 0 and S.credit > 0 then
    add(S, lane, k, body)
    lane_state(M, lane, k).c = k
    S.changed, S.credit = true, S.credit - 1
    into_flight(S, k)
    return 'h'
  end
  local flags, size, deadline = head_of(body)
  local key = flags % 2 == 1 and supersede_key(body)
  if key then
    local older = redis.call('HGET', mailbox_key('k', S), key)
    if older then end_message(S, tonumber(older), 's') end
  end
  if is_over(S, size, policy) and not make_room(S, size, policy) then
    if policy[3] == 2 then return 'r' end
    redis.call('HSET', mailbox_key('e', S), k, body)
    M.a, S.changed = 1, true
    into_flight(S, k)
    redis.call('SADD', base .. 't:' .. life, S.address)
    S.ended[#S.ended + 1] = {k, 'o', false, false}
    return 'd'
  end
  local state = lane_state(M, lane, k)
  add(S, lane, k, body)
  state.n, M.n, M.b, S.changed = state.n + 1, M.n + 1, M.b + size, true
  if deadline > 0 then
    redis.call('ZADD', mailbox_key('x', S), deadline, k)
    schedule(S, deadline)
  end
  if key then redis.call('HSET', mailbox_key('k', S), key, k) end
  return 'w'
end
