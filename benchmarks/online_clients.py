"""What a read of the online store costs: serving's own client, and redis-py's asyncio client.

    python -m benchmarks.online_clients redis://127.0.0.1:6379/0

Two HMGET of 10 fields each, as for a user and a user with a category, alone and by 16 readers at
once. CPU of this process per read, the least of 7 rounds; redis-py with hiredis, one pipeline a
read, from a pool.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import hiredis
import redis.asyncio
import uvloop

from contract.redis_address import RedisAddress
from serving.features.online_client import OnlineStoreClient

_FIELDS = [f"f{i:03}".encode() for i in range(10)]
_KEYS = (b"benchmark:user", b"benchmark:user:category")
_READS, _ROUNDS = 2_000, 7

Read = Callable[[], Awaitable[object]]


async def main(url: str) -> None:
    """Print microseconds of CPU per read, by client and number of readers."""
    stock = redis.asyncio.Redis.from_url(url)
    for key in _KEYS:
        await stock.hset(key, mapping=dict.fromkeys(_FIELDS, b"\x29" + bytes(8)))
    own = OnlineStoreClient(RedisAddress.from_url(url), 5.0)
    await own.start()
    commands = [hiredis.pack_command((b"HMGET", key, *_FIELDS)) for key in _KEYS]

    async def by_stock() -> object:
        pipeline = stock.pipeline(transaction=False)
        for key in _KEYS:
            pipeline.hmget(key, _FIELDS)
        return await pipeline.execute()

    assert await by_stock() == await own.read(commands)
    for readers in (1, 16):
        for name, read in (("own", lambda: own.read(commands)), ("redis-py", by_stock)):
            best = min([await _cpu(read, readers) for _ in range(_ROUNDS)])
            print(f"{name:8} {readers:2} readers: {best * 1e6:6.1f} µs a read")
    await stock.delete(*_KEYS)
    await stock.aclose()
    await own.stop()


async def _cpu(read: Read, readers: int) -> float:
    async def some() -> None:
        for _ in range(_READS // readers):
            await read()

    before = time.process_time()
    await asyncio.gather(*(some() for _ in range(readers)))
    return (time.process_time() - before) / _READS


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
