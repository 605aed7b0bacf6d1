"""Wait for a process that answers HTTP."""

import subprocess
import time
from urllib.error import URLError
from urllib.request import urlopen

WITHIN_SECONDS = 180


def wait_for_http(process: "subprocess.Popen[bytes]", url: str) -> None:
    """Return when `url` answers with a status below 400."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"ended with {process.returncode}"
        try:
            with urlopen(url, timeout=1):
                return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.02)
    raise AssertionError(f"{url} did not answer within {WITHIN_SECONDS} s")
