"""The pictures of docs/monitoring.md: `python -m tests.monitoring_pictures`.

Those of a simulated month, whose known breaks the page names.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from runner.commands.served.monitoring import monitor
from runner.monitoring.pictures import pictures
from runner.servers import postgres_server
from runner.settings import PostgresAddress
from tests.conftest import free_port
from tests.served_month import START, Month

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
SHOWN = ("distributions", "drift", "live_roc_auc", "reliability")


def main() -> None:
    """Write the pictures."""
    address = PostgresAddress("127.0.0.1", free_port(), "runner", "runner", "postgres")
    data = Path(tempfile.mkdtemp())
    data.chmod(0o711)  # root's server runs as nobody
    postgres_server.start(address, data / "data", options=postgres_server.THROWAWAY_OPTIONS)
    try:
        month = Month(Path(tempfile.mkdtemp(dir=data)), address)
        drawn = pictures(monitor(month.settings, month.path, START.isoformat()))
    finally:
        postgres_server.stop(data / "data")
        shutil.rmtree(data)
    for file, _, svg in drawn:
        if file in SHOWN:
            lines = (line.rstrip() for line in svg.splitlines())
            (FOLDER / f"monitoring_{file}.svg").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
