"""What Redis does in one go, as scripts: nothing comes in between, and what one of them leaves undone is told."""

from typing import Final

__all__ = ["ADD", "BACKLOG", "PROVISION", "TAKE", "TRIM"]

# KEYS: settings, topics, lanes. ARGV: number of lanes, where groups begin, number of topics, topics, groups.
PROVISION: Final = """
redis.call('HSETNX', KEYS[1], 'lanes', ARGV[1])
local lanes = redis.call('HGET', KEYS[1], 'lanes')
if lanes ~= ARGV[1] then return lanes end
local groups = 4 + tonumber(ARGV[3])
for at = 4, groups - 1 do redis.call('SADD', KEYS[2], ARGV[at]) end
for at = 3, #KEYS do
  if redis.call('EXISTS', KEYS[at]) == 0 then
    redis.call('XGROUP', 'CREATE', KEYS[at], 'made', '$', 'MKSTREAM')
    redis.call('XGROUP', 'DESTROY', KEYS[at], 'made')
  end
  for group = groups, #ARGV do
    local made = redis.pcall('XGROUP', 'CREATE', KEYS[at], ARGV[group], ARGV[2])
    if made['err'] and string.sub(made['err'], 1, 9) ~= 'BUSYGROUP' then return made end
  end
end
return lanes
"""

# Stops at the first that fails, so nothing of a key overtakes it.
ADD: Final = """
local at, added = 1, 0
while at <= #ARGV do
  local fields = tonumber(ARGV[at])
  local id = redis.pcall('XADD', KEYS[1], 'NOMKSTREAM', '*', unpack(ARGV, at + 1, at + fields))
  if not id then return {added, 'the stream is gone'} end
  if type(id) == 'table' and id['err'] then return {added, id['err']} end
  added, at = added + 1, at + 1 + fields
end
return {added, ''}
"""

# KEYS: owners, lanes. ARGV: group. Tears up the tickets of the owners before, and makes new ones.
# Gives the number of the new owner, and up to where the group has read each lane.
TAKE: Final = """#!lua flags=allow-oom
local read = {}
for at = 2, #KEYS do
  if redis.call('EXISTS', KEYS[at]) == 1 then
    for _, facts in ipairs(redis.call('XINFO', 'GROUPS', KEYS[at])) do
      local group = {}
      for part = 1, #facts, 2 do group[facts[part]] = facts[part + 1] end
      if group['name'] == ARGV[1] then read[at - 1] = group['last-delivered-id'] end
    end
  end
  if not read[at - 1] then return redis.error_reply('NOGROUP ' .. ARGV[1] .. ' on ' .. KEYS[at]) end
end
local number = redis.call('HINCRBY', KEYS[1], 'number', 1)
for at = 2, #KEYS do
  local tickets = KEYS[at] .. ':' .. ARGV[1] .. ':'
  redis.call('DEL', tickets .. (redis.call('HGET', KEYS[1], KEYS[at]) or ''))
  redis.call('HSET', KEYS[1], KEYS[at], number)
  redis.call('XGROUP', 'CREATE', tickets .. number, ARGV[1], '$', 'MKSTREAM')
end
return {number, read}
"""

# KEYS: lane. ARGV: groups. Gives how much each has to acknowledge; where Redis has lost count, it is counted.
BACKLOG: Final = """
local found, answer = {}, {}
if redis.call('EXISTS', KEYS[1]) == 1 then
  for _, facts in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local group = {}
    for at = 1, #facts, 2 do group[facts[at]] = facts[at + 1] end
    local unread = group['lag']
    if not unread then
      local from = '(' .. group['last-delivered-id']
      unread = #redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 10000)
    end
    found[group['name']] = unread + group['pending']
  end
end
for at, name in ipairs(ARGV) do answer[at] = found[name] or 0 end
return answer
"""

# Keeps what one of the groups has not acknowledged or not read; without a group, nobody will read what is there.
TRIM: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local keep, least
for _, facts in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for at = 1, #facts, 2 do group[facts[at]] = facts[at + 1] end
  local id = group['last-delivered-id']
  local pending = redis.call('XPENDING', KEYS[1], group['name'])
  if pending[1] > 0 then id = pending[2] end
  local moment, number = string.match(id, '(%d+)-(%d+)')
  moment, number = tonumber(moment), tonumber(number)
  if not keep or moment < least[1] or (moment == least[1] and number < least[2]) then
    keep, least = id, {moment, number}
  end
end
if not keep then return redis.call('XTRIM', KEYS[1], 'MAXLEN', 0) end
return redis.call('XTRIM', KEYS[1], 'MINID', keep)
"""
