"""How long an instance of the API takes from its start to its first answered prediction.

In the image's conditions: one core, the page cache with and without the files that are read,
packages with the bytecode that `pip` made of them, and our own code with the bytecode that the
image's build makes of it, and without. Beside it the floor: importing the packages that any such
API takes.

    .venv/bin/python -m benchmarks.cold_start
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

from contract.redis_address import RedisAddress
from runner.servers import redis_server
from tests.conftest import free_port
from tests.serving_bundles import OnlineStore, write_linear_bundle

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("fastapi", "hiredis", "httptools", "onnxruntime", "orjson", "uvicorn", "uvloop")
"""What any API on these parts imports."""
_BODY = json.dumps({"entity_rows": [{"user_id": 1, "category_id": "toys"}]}).encode()
_ROUNDS = 3


def main() -> None:
    """Print seconds on the clock and of CPU, the best of some rounds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_linear_bundle(folder / "bundle")
        with _redis(folder / "redis") as url:
            OnlineStore(url).write_user(1, "toys")
            for compiled in (True, False):
                code = copy_of_code(folder / f"code-{compiled}", compiled=compiled)
                for cold in (True, False):
                    rounds = [
                        start(code, folder / "bundle", url, cold=cold) for _ in range(_ROUNDS)
                    ]
                    floor = min(floor_cpu(code) for _ in range(_ROUNDS))
                    wall = min(clock for clock, _ in rounds)
                    cpu = min(used for _, used in rounds)
                    print(
                        f"bytecode {'made' if compiled else 'missing'}, page cache "
                        f"{'cold' if cold else 'warm'}: {wall:.2f} s, {cpu:.2f} s of CPU, "
                        f"{cpu / floor:.1f} × the imports of others ({floor:.2f} s)"
                    )


def copy_of_code(target: Path, *, compiled: bool) -> Path:
    """Return a folder with what the API is made of, as the image has it."""
    for name in ("contract", "serving"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, target / name, ignore=ignored)
    if compiled:
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(target)], check=True)
    return target


def start(code: Path, bundle: Path, redis_url: str, *, cold: bool) -> tuple[float, float]:
    """Return seconds on the clock and of CPU from nothing to the first answered prediction."""
    if cold:
        _forget(code)
        _forget(Path(json.__file__).parents[1])
        _forget(Path(sys.prefix) / "lib")
    port = free_port()
    env = _environment(code) | {
        "SERVING_MODEL": str(bundle),
        "REDIS_URL": redis_url,
        "SERVING_PORT": str(port),
        "SERVING_DRAIN_SECONDS": "0",
    }
    before, began = _children_cpu(), time.monotonic()
    process = subprocess.Popen(
        [*_ON_ONE_CORE, "-m", "serving"], env=env, cwd=code, stderr=subprocess.DEVNULL
    )
    _ask(f"http://127.0.0.1:{port}/predict")
    wall = time.monotonic() - began
    process.terminate()
    process.wait()
    return wall, _children_cpu() - before


def floor_cpu(code: Path) -> float:
    """Return the seconds of CPU that importing PACKAGES takes."""
    before = _children_cpu()
    line = f"import {', '.join(PACKAGES)}"
    subprocess.run([*_ON_ONE_CORE, "-c", line], env=_environment(code), check=True)
    return _children_cpu() - before


_ON_ONE_CORE = ("taskset", "-c", "0", sys._base_executable)  # type: ignore[attr-defined]


def _environment(code: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        # As the image's folder: not our editable install, and nothing is written.
        "PYTHONPATH": f"{code}:{_site_packages()}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _ask(url: str) -> None:
    headers = {"Content-Type": "application/json"}
    while True:
        try:
            with urlopen(Request(url, _BODY, headers), timeout=5) as answer:
                assert json.load(answer)["predictions"]
                return
        except OSError:
            time.sleep(0.005)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _site_packages() -> str:
    return str(next((Path(sys.prefix) / "lib").glob("python3.*/site-packages")))


def _forget(folder: Path) -> None:
    """Have the kernel drop a folder's files from its page cache."""
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


@contextmanager
def _redis(data: Path) -> Iterator[str]:
    address = RedisAddress.from_url(f"redis://127.0.0.1:{free_port()}/0")
    redis_server.start(address, data)
    try:
        yield address.url
    finally:
        redis_server.stop(data)


if __name__ == "__main__":
    main()
