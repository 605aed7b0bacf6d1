"""The Lua scripts that run inside the online store, beside `contract.online_write.WRITE`.

WRITE and REMOVE take one row, checked and changed in one step. KEYS[1] is the entity key, KEYS[2]
the lease's key. On a cluster the two lie on different servers, so there KEYS[2] is left out and the
lease is checked between batches instead.
"""

from contract.online_write import FENCE

# ARGV: token, time field, the Timestamp that was seen, then every field of the view.
REMOVE = (
    FENCE
    + """
if redis.call('HGET', KEYS[1], ARGV[2]) ~= ARGV[3] then return 0 end
redis.call('HDEL', KEYS[1], unpack(ARGV, 4))
return 1
"""
)

# For many rows on one server at once. KEYS: entity keys. ARGV: time field.
LOOK = """
local times = {}
for n, key in ipairs(KEYS) do times[n] = redis.call('HGET', key, ARGV[1]) end
return times
"""

# KEYS: entity keys. ARGV: key ttl in seconds.
KEEP_ALIVE = "for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[1]) end"

# One small write even if Redis is full: it refuses a script whose first write may take memory, and
# no later one. The first one here changes nothing. KEYS: the key. ARGV: command, other arguments.
EVEN_IF_FULL = """
local left = redis.call('PTTL', KEYS[1])
if left < 0 then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], left) end
return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))
"""

# KEYS: lease. ARGV: token, milliseconds.
RENEW = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2])"
RELEASE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1])"
