-- What time does: leases that have passed, messages that expire or come back, mailboxes that nobody needs.

local BATCH = 500

-- What a dead life had goes back to the front, in order; its places in lines are free. True: all of it is done.
local function bury(dead)
  local left = BATCH * 2
  for _, address in ipairs(redis.call('SRANDMEMBER', base .. 't:' .. dead, 100)) do
    if left <= 0 then return false end
    local S = open(address)
    local held = redis.call('HGETALL', mailbox_key('f', S))
    local mine = {}
    for number = 1, #held, 2 do
      if string.match(held[number + 1], '^%S+') == dead then
        mine[#mine + 1] = {tonumber(held[number]), tonumber(string.match(held[number + 1], '%d+$'))}
      end
    end
    for _, item in ipairs(mine) do
      redis.call('HDEL', mailbox_key('f', S), item[1])
      if S.M then give_back(S, item[1], item[2], '0 1 1', 0) end
    end
    left = left - #mine
    if S.M then
      local before = head_of_line(S)
      for _, ticket in ipairs(redis.call('LRANGE', mailbox_key('l', S), 0, -1)) do
        if string.match(ticket, '^[^/]+') == dead then leave(S, ticket) end
      end
      forget_hungry(S, dead)
      local head = head_of_line(S)
      if head ~= before and head ~= '' and S.M.e == 1 then
        wake_head(S, head)
      end
      S.settle = true
    elseif redis.call('EXISTS', mailbox_key('f', S)) == 0 then
      for lane = 0, 9 do redis.call('DEL', stream(S, lane)) end
      redis.call('DEL', mailbox_key('e', S))
    end
    redis.call('SREM', base .. 't:' .. dead, address)
  end
  if redis.call('EXISTS', base .. 't:' .. dead) == 1 then return false end
  redis.call('HDEL', base .. 'lease', dead)
  redis.call('DEL', base .. 'saved:' .. dead)
  return true
end

local function bury_dead(real)
  local more = false
  local leases = redis.call('HGETALL', base .. 'lease')
  for number = 1, #leases, 2 do
    local other = leases[number]
    if other ~= life and tonumber(leases[number + 1]) < real then
      redis.call('HSET', base .. 'lease', other, 0)
      if not bury(other) then more = true end
    end
  end
  return more
end

local function go_quiet(S)
  local M = S.M
  if M.q == 0 or M.q > now then return end
  M.q, S.changed = 0, true
  if M.s > 0 or (M.n + M.z > 0 and M.d == 1) then return end
  if redis.call('EXISTS', mailbox_key('f', S)) == 1 then
    S.settle = true
    return
  end
  end_all(S, 'i', BATCH)
  if M.n + M.z > 0 then
    M.q = now
  else
    flush_flight(S)
    remove(S)
  end
end

local function next_due(S)
  local M, first = S.M, nil
  for _, kind in ipairs({'x', 'z'}) do
    local found = redis.call('ZRANGE', mailbox_key(kind, S), 0, 0, 'WITHSCORES')
    if found[2] and (not first or tonumber(found[2]) < first) then first = tonumber(found[2]) end
  end
  if M.q > 0 and (not first or M.q < first) then first = M.q end
  return first
end

-- One mailbox whose time has come.
local function attend(S)
  local M = S.M
  redis.call('ZREM', base .. 'due', S.address)
  if not M then return end
  M.u, S.changed = 0, true
  if M.z > 0 then bring_back(S) end
  flush_flight(S)
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', mailbox_key('x', S), '-inf', now, 'LIMIT', 0, BATCH)) do
    end_message(S, tonumber(name), 't')
    redis.call('ZREM', mailbox_key('x', S), name)
    if M.s == 0 then S.settle = true end
  end
  go_quiet(S)
  if S.M then
    local first = next_due(S)
    if first then schedule(S, first) end
  end
end

local function sweep()
  local more = false
  local due = redis.call('ZRANGEBYSCORE', base .. 'due', '-inf', now, 'LIMIT', 0, 20)
  for _, address in ipairs(due) do attend(open(address)) end
  if #due > 0 then more = true end
  for _ = 1, 100 do
    local oldest_key = redis.call('LINDEX', base .. 'dl', 0)
    if not oldest_key or redis.call('EXISTS', base .. 'd:' .. oldest_key) == 1 then break end
    redis.call('LPOP', base .. 'dl')
  end
  return {more and 1 or 0, redis.call('SRANDMEMBER', base .. 'told', 100)}
end
