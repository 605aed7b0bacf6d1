"""Google Cloud Storage as far as conditional writes need it: objects with generations.

The emulator in `gcs` takes no preconditions. This server knows one bucket's metadata, reads of an
object and multipart uploads with `ifGenerationMatch`, each done as a whole.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


class _Objects(ThreadingHTTPServer):
    """Objects by name: generation and content."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = threading.Lock()
        self.objects: dict[str, tuple[int, bytes]] = {}


class _Handler(BaseHTTPRequestHandler):
    server: _Objects

    def do_GET(self) -> None:
        """Answer with a bucket's or an object's metadata, or with its content."""
        parts = urlsplit(self.path)
        name = unquote(parts.path.partition("/o/")[2])
        if not name:
            return self._answer(200, {"kind": "storage#bucket", "name": "bucket"})
        query = parse_qs(parts.query)
        generation, content = self.server.objects.get(name, (0, b""))
        wanted = int(query.get("generation", [str(generation)])[0])
        if not generation or wanted != generation:
            return self._answer(404, {"error": {"message": "not found"}})
        if query.get("alt") == ["media"]:
            return self._answer(200, content)
        return self._answer(200, _metadata(name, generation, content))

    def do_POST(self) -> None:
        """Take an upload, unless the object has another generation than is named."""
        query = parse_qs(urlsplit(self.path).query)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        about, data = message_from_bytes(head + body).get_payload()
        name = json.loads(about.get_payload(decode=True))["name"]
        content = data.get_payload(decode=True)
        with self.server.lock:
            present, _ = self.server.objects.get(name, (0, b""))
            if int(query.get("ifGenerationMatch", [str(present)])[0]) != present:
                return self._answer(412, {"error": {"message": "conditionNotMet"}})
            self.server.objects[name] = (present + 1, content)
        return self._answer(200, _metadata(name, present + 1, content))

    def _answer(self, status: int, content: dict[str, object] | bytes) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _metadata(name: str, generation: int, content: bytes) -> dict[str, object]:
    return {
        "kind": "storage#object",
        "name": name,
        "bucket": "bucket",
        "generation": str(generation),
        "size": str(len(content)),
    }


@contextmanager
def storage_with_generations() -> Iterator[_Objects]:
    """Keep the server running."""
    with _Objects() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
