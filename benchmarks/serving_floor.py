"""What a prediction costs at least: Redis's work for the same HMGETs, and the model's own.

The two take turns, as in a request: a model that runs without a pause stays in the processor's
caches, and takes a third less time.
"""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import hiredis
import numpy as np
import onnxruntime
import redis

from contract.bundle import Bundle
from contract.bundle_reader import read_bundle
from serving.features.online import OnlineFormat

_TRIES = 300


class Floor:
    """Asks Redis and runs the model, without anything around them.

    Parameters
    ----------
    asked
        Users of each request, as many in each.
    """

    def __init__(self, folder: Path, port: int, asked: Sequence[Sequence[int]]) -> None:
        bundle = read_bundle(folder)
        online = OnlineFormat(bundle)
        self._port = port
        self._run = _runs(bundle, len(asked[0]))
        self._requests = itertools.cycle([_commands(online, users) for users in asked])
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def milliseconds(self) -> tuple[float, float]:
        """Return the CPU time per request of Redis and of the model."""
        model_seconds = 0.0
        before = redis_cpu_seconds(self._port)
        for _ in range(_TRIES):
            _ask(self._socket, next(self._requests))
            started = time.process_time()
            self._run()
            model_seconds += time.process_time() - started
        redis_seconds = redis_cpu_seconds(self._port) - before
        return redis_seconds / _TRIES * 1000, model_seconds / _TRIES * 1000


def redis_cpu_seconds(port: int) -> float:
    """Return the CPU time that the Redis server has used."""
    with redis.Redis(port=port) as client:
        used = client.info("cpu")
    return float(used["used_cpu_sys"] + used["used_cpu_user"])


def _commands(online: OnlineFormat, users: Sequence[int]) -> list[bytes]:
    lookup = online.lookup()
    lookup.add(online.keys.encode([{"user_id": user} for user in users]))
    return lookup.commands()


def _ask(sock: socket.socket, commands: Sequence[bytes]) -> None:
    """Wait for the replies."""
    reader = hiredis.Reader()
    sock.sendall(b"".join(commands))
    missing = len(commands)
    while missing:
        reader.feed(sock.recv(1 << 16))
        while reader.gets() is not False:
            missing -= 1


def _runs(bundle: Bundle, rows: int) -> Callable[[], object]:
    """Return what runs the model for `rows` rows, different ones each time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(bundle.read_file(bundle.model.file), options)
    [tensor] = bundle.model.inputs
    values = np.random.default_rng(0).normal(size=(100, rows, len(tensor.columns)))
    batches = itertools.cycle(values.astype(np.float32))
    return lambda: session.run(None, {tensor.name: next(batches)})
