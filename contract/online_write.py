"""The Lua script that writes a row into the online store, unless a newer one is there.

KEYS[1] is the entity key. KEYS[2] is the key of a lease, where a materialization holds one on the
same server; a row that is pushed has none.
"""

# ARGV[1] is the lease's token.
FENCE = """
if KEYS[2] and redis.call('GET', KEYS[2]) ~= ARGV[1] then return -1 end
"""

LOST, KEPT, REPLACED, CREATED = -1, 0, 1, 2
"""What WRITE returns: the lease is lost; a newer value stays; replaced one; there was none."""

# ARGV: token, key ttl in seconds (0: none), Timestamp up to which a newer stored value is replaced
# ('': none is), time field, Timestamp, then fields and values. A varint is decoded into a double:
# exact below 2^53, and times are. A tenth byte means negative. Anything but a Timestamp of the
# years up to 9999 is not a time: it counts as older than any.
WRITE = (
    FENCE
    + """
local function decode(data)
  local parts, at = {0, 0}, 1
  while at <= #data do
    local tag = data:byte(at)
    if tag ~= 8 and tag ~= 16 then return {-math.huge, 0} end
    local value, complement, scale, count = 0, 0, 1, 0
    repeat
      at = at + 1
      local byte = data:byte(at)
      if not byte then return {-math.huge, 0} end
      local digit = byte % 128
      count = count + 1
      if count < 10 then
        value = value + digit * scale
        complement = complement + (127 - digit) * scale
        scale = scale * 128
      end
    until byte < 128
    at = at + 1
    parts[tag / 8] = count == 10 and -complement - 1 or value
  end
  if parts[1] > 253402300798 or parts[2] < 0 or parts[2] > 999999999 then
    return {-math.huge, 0}
  end
  return parts
end
local function newer(a, b)
  local x, y = decode(a), decode(b)
  return x[1] > y[1] or (x[1] == y[1] and x[2] > y[2])
end
local stored = redis.call('HGET', KEYS[1], ARGV[4])
if stored and stored ~= ARGV[5] and newer(stored, ARGV[5])
  and (ARGV[3] == '' or newer(stored, ARGV[3])) then
  return 0
end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
if ARGV[2] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return stored and 1 or 2
"""
)
