-- What waits is handed to this life, as far as it has credit.

local PAGE = 128
local MOST = 512
local MOST_BYTES = 1048576
local taken_bytes = 0 -- of all mailboxes of this call: what is left comes with the next

local function expired(S, k, body)
  local _, _, deadline = head_of(body)
  return deadline > 0 and deadline <= now
end

local function take_returned(S)
  local M = S.M
  local found = redis.call('ZRANGE', mailbox_key('r', S), 0, math.min(S.credit, PAGE) - 1)
  if #found == 0 then M.n, M.r, S.changed = M.n - M.r, 0, true end
  for _, name in ipairs(found) do
    local k = tonumber(name)
    local body = body_of(S, k)
    if not body then
      redis.call('ZREM', mailbox_key('r', S), k)
      M.r, M.n, S.changed = M.r - 1, M.n - 1, true
    elseif expired(S, k, body) then
      end_message(S, k, 't')
    else
      local _, counts, order = take_out(S, k)
      into_flight(S, k, order)
      S.taken[#S.taken + 1] = {k, false, counts}
      S.credit, taken_bytes = S.credit - 1, taken_bytes + #body
    end
  end
end

-- The lane whose turn it is, and for how many: nine of ten go to the highest, the tenth to the oldest.
local function choose(S)
  local M, highest, filled = S.M, nil, 0
  for lane = 9, 0, -1 do
    local state = M.L[lane + 1]
    if state and state.n > 0 then
      filled = filled + 1
      highest = highest or lane
    end
  end
  if filled <= 1 then return highest, PAGE end
  local turn = M.t % 10
  if turn < 9 then return highest, 9 - turn end
  local k = oldest(S)
  return k and lane_of(k) or highest, 1
end

local function take_from(S, lane, most)
  local M = S.M
  local state = M.L[lane + 1]
  local found = redis.call('XRANGE', stream(S, lane), (state.c + 1) .. '-0', '+', 'COUNT', math.min(most, S.credit))
  if #found == 0 then M.n, state.n = M.n - state.n, 0 end
  for _, item in ipairs(found) do
    if not is_ours(item) then
      set_aside(S, lane, {item})
    else
      local k = tonumber(string.match(item[1], '^%d+'))
      local body = item[2][2]
      S.bodies[k] = body
      state.c, state.n = k, state.n - 1
      uncount(S, k, body, true)
      into_flight(S, k)
      if expired(S, k, body) then
        S.ended[#S.ended + 1] = {k, 't', false, false}
      else
        S.taken[#S.taken + 1] = {k, false, false}
        S.credit, M.t, taken_bytes = S.credit - 1, M.t + 1, taken_bytes + #body
      end
    end
  end
  S.changed = true
end

local function take(S)
  local M = S.M
  while S.credit > 0 and M.n > 0 and #S.taken < MOST and taken_bytes < MOST_BYTES do
    if M.r > 0 then
      take_returned(S)
    else
      local lane, most = choose(S)
      if not lane then
        M.n, S.changed = 0, true
        return
      end
      take_from(S, lane, most)
    end
  end
end
