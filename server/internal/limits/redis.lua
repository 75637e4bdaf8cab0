-- Takes from, looks at or gives back to counters, at Redis's own time.
--
-- KEYS     one counter each
-- ARGV[1]  "take", "peek" or "refund"; with " once" after it, the last of KEYS is
-- the mark of a call with an idempotency key: while it is there, a take passes and
-- takes nothing, and a refund removes it
-- then eight for each key: algorithm (gcra, fixed_window, sliding_window, backoff,
-- or calendar and the starts of four windows), rate, burst, period in microseconds,
-- cost, how many more to take with it (a lease), how many of those even if they are
-- over a quarter of what is left, flags: "s" in shadow, "l" looked at only
--
-- Returns the time in Unix microseconds, then five for each key: exceeded (0 or
-- 1), the state: at, count, rest, and how many more were taken (of a calendar limit the
-- thresholds that were reached), as in
-- algorithm.go, which computes the same: change both or neither. Every number is
-- an integer below 2^53, so Lua's doubles are exact.

-- x*y/z rounded down and the remainder, for x and z below 2^42, y below 2^40:
-- long division, ten bits of y at a time.
local function muldiv(x, y, z)
  local quotient, remainder = 0, 0
  local unit = 1073741824
  for _ = 1, 4 do
    local digit = math.floor(y / unit)
    y = y - digit * unit
    unit = unit / 1024
    local part = remainder * 1024 + x * digit
    remainder = math.fmod(part, z)
    quotient = quotient * 1024 + (part - remainder) / z
  end
  return quotient, remainder
end

local function decay_gcra(c, s, now)
  if not s then
    return {at = now, count = 0, rest = 0, period = c.period}
  end
  if s.period ~= c.period then
    if s.rest > 0 then
      s.count = s.count + 1
    end
    s.rest = 0
    s.period = c.period
  end
  if s.at > now + c.period then
    s.at = now
  end
  if now <= s.at then
    return s
  end
  local passed = now - s.at
  local short = math.fmod(passed, c.period)
  local whole, part = muldiv(short, c.rate, c.period)
  whole = whole + (passed - short) / c.period * c.rate
  s.at = now
  if whole > s.count or (whole == s.count and part >= s.rest) then
    s.count = 0
    s.rest = 0
    return s
  end
  s.count = s.count - whole
  s.rest = s.rest - part
  if s.rest < 0 then
    s.rest = s.rest + c.period
    s.count = s.count - 1
  end
  return s
end

local function used(c, s, now)
  if s.rest == 0 or c.algorithm == 'calendar' then
    return s.count
  end
  if c.algorithm == 'gcra' then
    return s.count + 1
  end
  local weighted, part = muldiv(c.period - math.max(0, now - s.at), s.rest, c.period)
  if part > 0 then
    weighted = weighted + 1
  end
  return s.count + weighted
end

local function roll(c, s, now, period)
  local start = now - math.fmod(now, period)
  if s.at > now + period then
    s.at = start
  elseif start > s.at then
    if c.algorithm == 'sliding_window' and start == s.at + period then
      s.rest = s.count
    else
      s.rest = 0
    end
    s.count = 0
    s.at = start
  end
  return s
end

-- of backoff: the wait after the latest call
local function wait(c, s)
  local more = s.count - c.burst
  if more < 0 then
    return 0
  end
  if more > 31 then
    return s.period
  end
  return math.min(1000000 * 2 ^ more, s.period)
end

local function decay_backoff(c, s, now)
  if not s then
    return {at = now, count = 0, rest = 0, period = c.period}
  end
  if s.at > now + c.period then
    s.at = now
  end
  for _, period in ipairs({s.period, c.period}) do
    s.period = period
    if s.count == 0 or now >= s.at + wait(c, s) + s.period then
      return {at = now, count = 0, rest = 0, period = c.period}
    end
  end
  return s
end

-- of a calendar limit: the start of the window that a time is in, or of the nearest
local function window_at(c, now)
  local start = c.starts[1]
  for _, next in ipairs(c.starts) do
    if next <= now then
      start = next
    end
  end
  return start
end

-- when the window ends that began then
local function window_end(c, start)
  for _, next in ipairs(c.starts) do
    if next > start then
      return next
    end
  end
  return start + c.period
end

local function read_algorithm(c, text)
  c.algorithm = text
  if string.sub(text, 1, 9) == 'calendar ' then
    c.algorithm = 'calendar'
    c.starts = {}
    for start in string.gmatch(text, ' (%d+)') do
      c.starts[#c.starts + 1] = tonumber(start)
    end
  end
end

local function advance_calendar(c, s, now)
  local start = window_at(c, now)
  if not s or start > s.at then
    return {at = start, count = 0, rest = 0, period = c.period}
  end
  if s.at > now + c.period then
    s.at = start
  end
  s.period = c.period
  return s
end

local function advance(c, s, now)
  if c.algorithm == 'calendar' then
    return advance_calendar(c, s, now)
  end
  if c.algorithm == 'gcra' then
    return decay_gcra(c, s, now)
  end
  if c.algorithm == 'backoff' then
    return decay_backoff(c, s, now)
  end
  local start = now - math.fmod(now, c.period)
  if not s then
    return {at = start, count = 0, rest = 0, period = c.period}
  end
  if s.period ~= c.period then
    s = roll(c, s, now, s.period)
    local old = {algorithm = c.algorithm, period = s.period}
    return {at = start, count = used(old, s, now), rest = 0, period = c.period}
  end
  return roll(c, s, now, c.period)
end

-- the microseconds until the state is the same as an unused one
local function left(c, s, now)
  if c.algorithm == 'backoff' then
    return s.at + wait(c, s) + s.period - now
  end
  if c.algorithm == 'calendar' then
    local rest = window_end(c, s.at) - now
    if rest <= 0 then
      rest = c.period -- the instance's clock is far behind: it knows no later window
    end
    return rest
  end
  if c.algorithm ~= 'gcra' then
    local windows = 1
    if c.algorithm == 'sliding_window' and s.count > 0 then
      windows = 2
    end
    return s.at + windows * c.period - now
  end
  local whole, part = muldiv(c.period, s.count, c.rate)
  return s.at - now + whole + math.ceil((part + s.rest) / c.rate)
end

-- marks the thresholds of a calendar limit that the state has reached, and returns
-- those that it had not reached before: see threshold.go
local function reach(c, s, refuses)
  if not c.starts then
    return 0
  end
  local reached = 0
  local nearly = s.count * 5 >= c.burst * 4
  if s.count >= c.burst or (nearly and refuses) then
    reached = 3
  elseif nearly then
    reached = 1
  end
  local all = math.max(s.rest, reached)
  local fresh = all - s.rest
  s.rest = all
  return fresh
end

local function save(key, c, s, now)
  if s.count == 0 and s.rest == 0 then
    redis.call('DEL', key)
    return
  end
  local ms = math.floor(math.min(left(c, s, now), 4e15) / 1000) + 1
  redis.call('SET', key, string.format('%.0f %.0f %.0f %.0f', s.at, s.count, s.rest, s.period),
    'PX', string.format('%.0f', ms))
end

local function load(key)
  local text = redis.call('GET', key)
  if not text then
    return nil
  end
  local at, count, rest, period = string.match(text, '^(%d+) (%d+) (%d+) (%d+)$')
  if not at then
    return nil
  end
  return {at = tonumber(at), count = tonumber(count), rest = tonumber(rest), period = tonumber(period)}
end

-- End of what redis_reserve.lua begins with, too.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local mode, once, again = ARGV[1], nil, false
if string.sub(mode, -5) == ' once' then
  mode = string.sub(mode, 1, -6)
  once = table.remove(KEYS)
  again = mode == 'take' and redis.call('EXISTS', once) == 1
  if again then
    mode = 'peek'
  end
end
local refused = mode ~= 'take'
local counts, states, exceeded, more = {}, {}, {}, {}
for i, key in ipairs(KEYS) do
  local n = (i - 1) * 8 + 1
  local c = {
    rate = tonumber(ARGV[n + 2]),
    burst = tonumber(ARGV[n + 3]),
    period = tonumber(ARGV[n + 4]),
    cost = tonumber(ARGV[n + 5]),
    more = tonumber(ARGV[n + 6]),
    sure = tonumber(ARGV[n + 7]),
    shadow = string.find(ARGV[n + 8], 's') ~= nil,
    look = string.find(ARGV[n + 8], 'l') ~= nil,
  }
  read_algorithm(c, ARGV[n + 1])
  local s = advance(c, load(key), now)
  counts[i] = c
  states[i] = s
  if c.algorithm == 'backoff' then
    exceeded[i] = s.count >= c.burst and now < s.at + wait(c, s)
  else
    exceeded[i] = c.cost > c.burst - used(c, s, now)
  end
  exceeded[i] = exceeded[i] and (c.shadow or not again)
  refused = refused or (exceeded[i] and not c.shadow)
end
if once and not refused then
  redis.call('SET', once, '', 'PX', 10000) -- onceFor
elseif once and mode == 'refund' then
  redis.call('DEL', once)
end

local reply = {now}
for i, key in ipairs(KEYS) do
  local c, s = counts[i], states[i]
  if c.look then
    -- nothing is written
  elseif mode == 'take' and not exceeded[i] and (c.shadow or not refused) then
    if c.more > 0 then
      local left = c.burst - used(c, s, now) - c.cost
      more[i] = math.max(0, math.min(c.more, left, math.max(c.sure, math.floor(left / 4))))
    end
    s.count = s.count + c.cost + (more[i] or 0)
    if c.algorithm == 'backoff' then
      s.at = math.max(s.at, now)
    end
    if c.starts then
      more[i] = reach(c, s, false)
    end
    save(key, c, s, now)
  elseif mode == 'take' and exceeded[i] and c.starts then
    more[i] = reach(c, s, true)
    if more[i] > 0 then
      save(key, c, s, now)
    end
  elseif mode == 'refund' then
    -- What backoff waits from is not known any more: it waits from now.
    s.count = s.count - c.cost
    if s.count < 0 then
      if c.algorithm == 'gcra' then
        s.rest = 0
      elseif not c.starts then
        s.rest = math.max(0, s.rest + s.count)
      end
      s.count = 0
    end
    save(key, c, s, now)
  end
  reply[#reply + 1] = exceeded[i] and 1 or 0
  reply[#reply + 1] = s.at
  reply[#reply + 1] = s.count
  reply[#reply + 1] = s.rest
  reply[#reply + 1] = more[i] or 0
end
return reply
