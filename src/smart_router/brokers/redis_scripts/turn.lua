-- All that one node does in one partition in one turn of its event loop.
--
-- call: life, known (0: its first here), retry, number, now, lease ms, prefix, window ms, keys limit, policies, keys (of
-- senders: text, answer), sections, sweep (1: all
-- that time does; 2: only what dead lives held), refuse (1: puts are too late), bye (1),
-- guest (1: only looks after time, and needs a lease only if it comes to hold something). The answer holds, per section and per
-- mailbox that the sweep touched, what became of it; bodies are filled in last, so that the answer of a call that is
-- sent again (its connection broke) can be kept without them.

local real
do
  local time = redis.call('TIME')
  real = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function counts_or(value) return value or '' end

local function answer_of(S)
  local taken, ended = {}, {}
  for number, item in ipairs(S.taken) do taken[number] = {item[1], false, counts_or(item[3])} end
  for number, item in ipairs(S.ended) do ended[number] = {item[1], item[2], item[3], counts_or(item[4])} end
  local M = S.M
  return {S.address, M and 1 or 0, M and M.n or 0, S.hungry and 1 or 0, S.head or false, S.first or 0,
          table.concat(S.statuses), taken, ended, S.removed and 1 or 0, M and M.z or 0}
end

local function fill(answer)
  for _, section in ipairs(answer[3]) do
    local S = open(section[1])
    for _, item in ipairs(section[8]) do item[2] = body_of(S, item[1]) or '' end
    for _, item in ipairs(section[9]) do
      if not item[3] then item[3] = body_of(S, item[1]) or '' end
    end
  end
  return answer
end

local function known_keys(keys)
  local known = {}
  for number, key in ipairs(keys) do known[number] = redis.call('GET', base .. 'd:' .. key[1]) end
  return known
end

local function remember_keys(keys, known, spoilt)
  for number, key in ipairs(keys) do
    if not known[number] and not spoilt[number] and call.refuse == 0 then
      redis.call('SET', base .. 'd:' .. key[1], key[2], 'PX', call.window)
      if redis.call('RPUSH', base .. 'dl', key[1]) > call.limit then
        redis.call('DEL', base .. 'd:' .. redis.call('LPOP', base .. 'dl'))
      end
    end
  end
end

local function put_all(S, puts, policy, known, spoilt)
  S.first = counters.seq + 1
  local statuses = S.statuses
  for number = 1, #puts, 3 do
    local key = puts[number + 2]
    local status
    if call.refuse == 1 then
      status, counters.seq = 'x', counters.seq + 1
    elseif key > 0 and known[key] then
      status, counters.seq = 'u', counters.seq + 1
    else
      status = put(S, puts[number], puts[number + 1], policy)
    end
    if status == 'r' and key > 0 then spoilt[key] = true end
    statuses[#statuses + 1] = status
  end
  counted, S.settle = true, true
end

local function operate(S, what)
  if what == 'purge' then
    end_all(S, 'p', BATCH)
  elseif what == 'delete' then
    for _, ticket in ipairs(redis.call('LRANGE', mailbox_key('l', S), 0, -1)) do wake(ticket, 'd', S.address) end
    end_all(S, 'p', BATCH)
    if S.M.n + S.M.z == 0 then remove(S) end
  elseif type(what) == 'number' then
    end_message(S, what, 'k')
  end
end

-- section: address, policy, credit, reads, acks, withdrawn, released, line, tickets, puts, operation
local function run(section, known, spoilt)
  local policy = call.policies[section[2]]
  local S = open(section[1], policy)
  S.credit, S.reads = section[3], section[4] == 1
  if #section[5] > 0 then acknowledge(S, section[5]) end
  for _, k in ipairs(section[6]) do withdraw(S, k) end
  local released = section[7]
  for number = 1, #released, 3 do release(S, released[number], released[number + 1], released[number + 2]) end
  if not S.M then return S end
  if #section[9] > 0 or #section[8] > 0 then stand_in_line(S, section[8], section[9]) end
  if S.credit > 0 and S.M.n > 0 then take(S) end
  if #section[10] > 0 then put_all(S, section[10], policy, known, spoilt) end
  if section[11] ~= 0 then operate(S, section[11]) end
  if S.M and S.credit > 0 and S.M.n > 0 then take(S) end
  return S
end

local lease = redis.call('HGET', base .. 'lease', life)
if (not lease and call.known == 1) or lease == '0' then return {'stale'} end
if call.retry == 1 then
  local saved = redis.call('GET', base .. 'saved:' .. life)
  if saved then
    local answer = cmsgpack.unpack(saved)
    if answer[2] == call.number then return fill(answer) end
  end
end
if call.guest == 0 and (not lease or tonumber(lease) < real + call.lease * 2 / 3) then
  redis.call('HSET', base .. 'lease', life, real + call.lease)
end

local packed = redis.call('GET', base .. 'p')
if packed then counters = cmsgpack.unpack(packed) end
local buried_all = true
if call.sweep > 0 or call.known == 0 then buried_all = not bury_dead(real) end
local known, spoilt = known_keys(call.keys), {}
local worth_keeping = false
for _, section in ipairs(call.sections) do
  local S = run(section, known, spoilt)
  worth_keeping = worth_keeping or #section[10] > 0 or #section[8] > 0 or section[11] ~= 0
end
if #call.keys > 0 then remember_keys(call.keys, known, spoilt) end
local swept = call.sweep == 1 and sweep() or false
if not buried_all then swept = {1, swept and swept[2] or {}} end

local sections = {}
for number, S in ipairs(open_list) do
  finish(S)
  worth_keeping = worth_keeping or #S.taken > 0 or #S.ended > 0 or S.removed
  sections[number] = answer_of(S)
end
if counted then redis.call('SET', base .. 'p', cmsgpack.pack(counters)) end
for number = 1, #call.keys do known[number] = known[number] or false end
local answer = {'ok', call.number, sections, known, swept}
if worth_keeping and call.guest == 1 then redis.call('HSET', base .. 'lease', life, real + call.lease) end
if worth_keeping then redis.call('SET', base .. 'saved:' .. life, cmsgpack.pack(answer)) end
if call.bye == 1 then
  for _, key in ipairs({'saved:', 't:'}) do redis.call('DEL', base .. key .. life) end
  redis.call('HDEL', base .. 'lease', life)
end
if call.bye == 1 then
  for _, key in ipairs({'saved:', 't:'}) do redis.call('DEL', base .. key .. life) end
  redis.call('HDEL', base .. 'lease', life)
end
return fill(answer)
