-- Subscriptions: tickets "life/number" in the order of their coming. Of an exclusive mailbox the first has its turn.

local function join(S, ticket)
  redis.call('RPUSH', mailbox_key('l', S), ticket)
  redis.call('SADD', base .. 't:' .. life, S.address)
  S.M.s, S.changed = S.M.s + 1, true
end

local function leave(S, ticket)
  if S.M and redis.call('LREM', mailbox_key('l', S), 1, ticket) == 1 then
    S.M.s, S.changed, S.settle = S.M.s - 1, true, true
  end
end

local function head_of_line(S)
  return redis.call('LINDEX', mailbox_key('l', S), 0) or ''
end

-- `tickets`: this node's own, each with its credit: that of the one whose turn it is counts.
local function stand_in_line(S, operations, tickets)
  local before = #operations > 0 and head_of_line(S)
  for _, operation in ipairs(operations) do
    local ticket = string.sub(operation, 2)
    if string.sub(operation, 1, 1) == '+' then join(S, ticket) else leave(S, ticket) end
  end
  local head = head_of_line(S)
  if before and before ~= head and head ~= '' and string.match(head, '^[^/]+') ~= life and S.M.e == 1 then
    wake_head(S, head)
  end
  S.head = head
  S.turn = S.M.e == 1 and head ~= '' and string.match(head, '^[^/]+') == life
  if S.M.e == 1 then
    S.credit = 0
    for number = 1, #tickets, 2 do
      if tickets[number] == head then S.credit = tickets[number + 1] end
    end
  end
end
