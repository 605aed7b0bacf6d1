"""The hash slot of a key, as redis-py computes it."""

from hypothesis import example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from serving.features.online_client import hash_slot


@given(st.binary(max_size=40) | st.text("{}ab", max_size=8).map(str.encode))
@example(b"")
@example(b"{}user")
@example(b"a{user}b{other}")
@example(b"\x7b\x00\x00\x7d")  # an entity key may hold the bytes of braces
def test_the_slot_is_redis_own(key: bytes) -> None:
    assert hash_slot(key) == key_slot(key)
