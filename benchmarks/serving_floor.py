"""What a prediction costs at least: Redis's work for the same HMGETs, and the model's own."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import hiredis
import numpy as np
import onnxruntime
import redis

from contract.bundle import Bundle, read_bundle
from serving.features.online import OnlineFormat

_TRIES = 1_000


def floor_ms(folder: Path, port: int, asked: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Return the CPU time per request of Redis and of the model, in milliseconds.

    Parameters
    ----------
    asked
        Users of each request, as many in each.
    """
    bundle = read_bundle(folder)
    return _redis_ms(OnlineFormat(bundle), port, asked), _model_ms(bundle, len(asked[0]))


def redis_cpu_seconds(port: int) -> float:
    """Return the CPU time that the Redis server has used."""
    with redis.Redis(port=port) as client:
        used = client.info("cpu")
    return float(used["used_cpu_sys"] + used["used_cpu_user"])


def _redis_ms(online: OnlineFormat, port: int, asked: Sequence[Sequence[int]]) -> float:
    """Return Redis's CPU time per request, asked one after the other on a plain socket."""
    requests = itertools.cycle(
        [[one for user in users for one in online.commands({"user_id": user})] for users in asked]
    )
    reader = hiredis.Reader()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ask() -> None:
            commands = next(requests)
            sock.sendall(b"".join(commands))
            missing = len(commands)
            while missing:
                reader.feed(sock.recv(1 << 16))
                while reader.gets() is not False:
                    missing -= 1

        return _cpu_ms(ask, lambda: redis_cpu_seconds(port))


def _model_ms(bundle: Bundle, rows: int) -> float:
    """Return the model's CPU time for `rows` rows, different ones each time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(bundle.read_file(bundle.model.file), options)
    [tensor] = bundle.model.inputs
    values = np.random.default_rng(0).normal(size=(100, rows, len(tensor.columns)))
    batches = itertools.cycle(values.astype(np.float32))
    return _cpu_ms(lambda: session.run(None, {tensor.name: next(batches)}), time.process_time)


def _cpu_ms(action: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    for _ in range(_TRIES):
        action()
    return (clock() - started) / _TRIES * 1000
