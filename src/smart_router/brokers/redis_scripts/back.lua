-- What was handed out comes to its end, or back.

-- Deletes messages that nobody needs any more, with all streams when nothing is left.
local function forget(S, list)
  local M = S.M
  if (not M or M.n + M.z == 0) and redis.call('EXISTS', mailbox_key('f', S)) == 0 and #S.flight == 0 then
    if M then
      for lane = 0, 9 do
        if M.L[lane + 1] then redis.call('DEL', stream(S, lane)) end
      end
    else
      for lane = 0, 9 do redis.call('DEL', stream(S, lane)) end
    end
    if not M or M.a then redis.call('DEL', mailbox_key('e', S)) end
    if M and M.a then M.a, S.changed = nil, true end
    return
  end
  if M and not M.a and #list <= 1000 then
    local lane, same = lane_of(list[1]), true
    for _, k in ipairs(list) do
      if lane_of(k) ~= lane then same = false break end
    end
    if same then
      redis.call('XDEL', stream(S, lane), unpack(list))
      return
    end
  end
  for _, k in ipairs(list) do
    redis.call('XDEL', stream(S, lane_of(k)), k .. '-0')
    redis.call('HDEL', mailbox_key('e', S), k)
  end
end

local function acknowledge(S, list)
  in_parts('HDEL', mailbox_key('f', S), list)
  forget(S, list)
  S.settle = true
end

-- A confirmation of what has been given back already; it counts unless somebody else has it now.
local function withdraw(S, k)
  local holder = redis.call('HGET', mailbox_key('f', S), k)
  if holder then
    if string.match(holder, '^%S+') == life then acknowledge(S, {k}) end
    return
  end
  if take_out(S, k) then
    forget(S, {k})
    S.settle = true
  end
end

-- Puts k, which was in flight, before all that waits. `counts`: core's, "attempts deliveries redelivered".
local function give_back(S, k, order, counts, due)
  local M = S.M
  S.settle = true
  local body = body_of(S, k)
  if not body then return end
  if not M then
    into_flight(S, k, order)
    S.ended[#S.ended + 1] = {k, 'p', false, counts}
    return
  end
  local flags, size, deadline = head_of(body)
  if flags % 2 == 1 then
    local key = supersede_key(body)
    local other = tonumber(redis.call('HGET', mailbox_key('k', S), key) or 0)
    if other > k then
      into_flight(S, k, order)
      S.ended[#S.ended + 1] = {k, 's', false, counts}
      return
    end
    if other > 0 and other < k then end_message(S, other, 's') end
    redis.call('HSET', mailbox_key('k', S), key, k)
  end
  M.b, S.changed = M.b + size, true
  if due > 0 then
    redis.call('ZADD', mailbox_key('z', S), due, k)
    redis.call('HSET', mailbox_key('c', S), k, counts .. ' ' .. order)
    M.z = M.z + 1
    schedule(S, due)
  else
    redis.call('ZADD', mailbox_key('r', S), order, k)
    if counts ~= '0 0 1' then redis.call('HSET', mailbox_key('c', S), k, counts) end
    M.r, M.n = M.r + 1, M.n + 1
  end
  if deadline > 0 then
    redis.call('ZADD', mailbox_key('x', S), deadline, k)
    schedule(S, deadline)
  end
end

local function release(S, k, counts, due)
  local holder = redis.call('HGET', mailbox_key('f', S), k)
  if not holder or string.match(holder, '^%S+') ~= life then return end
  redis.call('HDEL', mailbox_key('f', S), k)
  give_back(S, k, tonumber(string.match(holder, '%d+$')), counts, due)
end

-- What was delayed until now waits again.
local function bring_back(S)
  local M = S.M
  local found = redis.call('ZRANGEBYSCORE', mailbox_key('z', S), '-inf', now, 'LIMIT', 0, 500)
  for _, name in ipairs(found) do
    local counts = redis.call('HGET', mailbox_key('c', S), name)
    redis.call('ZREM', mailbox_key('z', S), name)
    redis.call('ZADD', mailbox_key('r', S), string.match(counts, '%d+$'), name)
    redis.call('HSET', mailbox_key('c', S), name, string.match(counts, '^%d+ %d+ %d+'))
    M.z, M.r, M.n, S.changed = M.z - 1, M.r + 1, M.n + 1, true
  end
  return #found
end

-- Ends up to `most` of all that waits.
local function end_all(S, code, most)
  local M, ended = S.M, 0
  while M.n > 0 and ended < most do
    local k = oldest(S)
    if not k then
      M.n, S.changed = 0, true
      break
    end
    local lane = M.L[lane_of(k) + 1]
    if lane and k > lane.c and M.r == 0 then
      -- In its turn: it may stay in its stream.
      lane.c, lane.n = k, lane.n - 1
      uncount(S, k, S.bodies[k], true)
      into_flight(S, k)
      S.ended[#S.ended + 1] = {k, code, false, false}
    elseif not end_message(S, k, code) then
      break
    end
    ended = ended + 1
  end
  if M.z > 0 and ended < most then
    for _, name in ipairs(redis.call('ZRANGE', mailbox_key('z', S), 0, most - ended - 1)) do
      if end_message(S, tonumber(name), code) then ended = ended + 1 end
    end
  end
  if ended > 0 then redis.call('SADD', base .. 't:' .. life, S.address) end
  return ended
end
