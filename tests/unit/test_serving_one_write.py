"""What a turn of the event loop writes to a connection goes out by one write."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from serving.one_write import GatheringTransport


class _Transport:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def write(self, data: bytes) -> None:
        self.seen.append(data)

    def close(self) -> None:
        self.seen.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.seen

    def get_extra_info(self, name: str) -> str:
        return f"the {name}"


async def _gathering() -> tuple[_Transport, GatheringTransport]:
    inner = _Transport()
    loop = asyncio.get_running_loop()
    return inner, GatheringTransport(cast("asyncio.Transport", inner), loop)


def test_head_and_body_are_one_write_and_the_next_answer_another() -> None:
    async def run() -> list[Any]:
        inner, transport = await _gathering()
        transport.write(b"head ")
        transport.write(b"body")
        assert inner.seen == []
        await asyncio.sleep(0)
        transport.write(b"next")
        await asyncio.sleep(0)
        return inner.seen

    assert asyncio.run(run()) == [b"head body", b"next"]


def test_what_was_written_goes_out_before_the_connection_closes() -> None:
    async def run() -> list[Any]:
        inner, transport = await _gathering()
        transport.write(b"last")
        transport.close()
        assert transport.is_closing()
        await asyncio.sleep(0)
        return inner.seen

    assert asyncio.run(run()) == [b"last", "closed"]


def test_everything_else_is_the_transports_own() -> None:
    async def run() -> Any:
        _, transport = await _gathering()
        return transport.get_extra_info("peername")

    assert asyncio.run(run()) == "the peername"
