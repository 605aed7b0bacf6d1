"""The log's reader may go away; the server must not mind."""

import json
import os
import subprocess
import sys
from urllib.request import urlopen

from tests.serving_bundles import write_linear_bundle


def test_a_server_whose_log_nobody_reads_answers_and_stops(tmp_path, redis_url):
    write_linear_bundle(tmp_path / "bundle")
    env = {
        **os.environ,
        "SERVING_PORT": "0",
        "SERVING_MODEL": str(tmp_path / "bundle"),
        "SERVING_DRAIN_SECONDS": "0",
        "REDIS_URL": redis_url,
    }
    command = [sys.executable, "-m", "serving"]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE) as server:
        assert server.stderr is not None
        lines = map(json.loads, server.stderr)
        url = next(line["url"] for line in lines if line["message"] == "listening")
        server.stderr.close()
        try:
            with urlopen(f"{url}/health", timeout=20) as answer:
                assert answer.status == 200
            server.terminate()
            server.wait(20)
        finally:
            server.kill()
