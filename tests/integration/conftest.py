"""What the integration tests share besides the servers of `tests/conftest.py`."""

import pytest
import redis

from contract.redis_address import RedisAddress


@pytest.fixture(scope="module", name="redis_server")
def _redis_server(redis_server: RedisAddress) -> RedisAddress:
    """A Redis that is empty when a module starts: others write users of the same numbers."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushdb()
    return redis_server
