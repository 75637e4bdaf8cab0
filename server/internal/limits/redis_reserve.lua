-- Reserves and settles, after the functions of redis.lua.
--
-- KEYS     the counter, and its open reservations with the times until when
-- ARGV[1]  "reserve" or "settle"
-- ARGV[2]  the reservation, then algorithm, rate, burst and period
-- reserve: then cost, how long it is open in microseconds, how many may be open, how
-- long the set of them is kept in milliseconds
-- settle: then what was charged, what it did cost, the time or the window's start of
-- the reservation, 1 to give nothing back, and the most that a counter holds
--
-- Returns the time, or -1 when there are too many or it is not open; then exceeded
-- (0 or 1), the state: at, count, rest, and the thresholds that were reached.
-- reserve.go computes the same: change both or neither.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local counter, open = KEYS[1], KEYS[2]
local c = {
  rate = tonumber(ARGV[4]),
  burst = tonumber(ARGV[5]),
  period = tonumber(ARGV[6]),
}
read_algorithm(c, ARGV[3])
local s = advance(c, load(counter), now)
local exceeded, fresh = 0, 0
if ARGV[1] == 'reserve' then
  local cost = tonumber(ARGV[7])
  redis.call('ZREMRANGEBYSCORE', open, '-inf', string.format('%.0f', now))
  if redis.call('ZCARD', open) >= tonumber(ARGV[9]) then
    return {-1}
  end
  if cost > c.burst - used(c, s, now) then
    exceeded = 1
    fresh = reach(c, s, true)
    if fresh > 0 then
      save(counter, c, s, now)
    end
  else
    s.count = s.count + cost
    fresh = reach(c, s, false)
    save(counter, c, s, now)
    redis.call('ZADD', open, string.format('%.0f', now + tonumber(ARGV[8])), ARGV[2])
    redis.call('PEXPIRE', open, ARGV[10])
  end
else
  local score = redis.call('ZSCORE', open, ARGV[2])
  if not score or tonumber(score) <= now then
    return {-1}
  end
  redis.call('ZREM', open, ARGV[2])
  local charged, cost, at = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
  if cost >= charged then
    s.count = math.min(s.count + cost - charged, math.max(s.count, tonumber(ARGV[11])))
  elseif ARGV[10] ~= '1' then
    local back = charged - cost
    if c.algorithm == 'gcra' then
      -- The time in whole periods and what is left of them, as muldiv takes it.
      local passed = math.max(0, now - at)
      local short = math.fmod(passed, c.period)
      local drained, part = muldiv(short, c.rate, c.period)
      drained = drained + (passed - short) / c.period * c.rate
      if part > 0 then
        drained = drained + 1
      end
      s.count = s.count - math.max(0, math.min(back, charged - drained, s.count))
    elseif s.at == at then
      s.count = s.count - math.min(back, s.count)
    elseif c.algorithm == 'sliding_window' and s.at == at + c.period then
      s.rest = s.rest - math.min(back, s.rest)
    end
  end
  fresh = reach(c, s, false)
  save(counter, c, s, now)
end
return {now, exceeded, s.at, s.count, s.rest, fresh}
