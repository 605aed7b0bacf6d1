"""A headless Chromium that clicks and takes pictures, driven by the DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
# It can reach nothing but this machine.
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    "--disable-features=IsolateSandboxedIframes",  # a process of their own would hide them from us
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
_SECONDS = 60.0


class RefusedError(Exception):
    """The browser did not do what it was asked."""


class Page:
    """One page; what it is asked to find is waited for."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.problems: list[str] = []
        """What the console shows as errors, and exceptions of the page's own code."""
        for domain in ("Log", "Page", "Runtime"):
            self._call(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Go to `url`."""
        self._call("Page.navigate", url=url)

    def click(self, selector: str, text: str) -> None:
        """Click the first visible element of `selector` whose text is `text`, spaces aside."""
        same = f"e => e.textContent.replace(/\\s/g, '') === {json.dumps(''.join(text.split()))}"
        found = f"{_visible(selector)}.find({same})"
        self._wait(f"(e => e ? (e.click(), true) : false)({found})", f"{selector} {text!r}")

    def wait_for(self, text: str) -> None:
        """Return when the page shows `text`."""
        self._wait(f"document.body.innerText.includes({json.dumps(text)})", repr(text))

    def wait_for_in_frame(self, text: str) -> None:
        """Wait until a frame that the page's scripts cannot read shows `text`."""
        deadline = time.monotonic() + _SECONDS
        while not any(text in shown for shown in self._frames()):
            assert time.monotonic() < deadline, f"no {text!r} in a frame: {self._evaluate(_TEXT)}"

    def _frames(self) -> Iterator[str]:
        tree = self._call("Page.getFrameTree")["frameTree"]
        for child in tree.get("childFrames", []):
            with suppress(RefusedError):  # it loads another document just now
                found = self._call("Page.createIsolatedWorld", frameId=child["frame"]["id"])
                yield str(self._evaluate(_TEXT, found["executionContextId"]))

    def dark(self) -> None:
        """Show pages as for a reader whose system prefers dark colours."""
        dark = {"name": "prefers-color-scheme", "value": "dark"}
        self._call("Emulation.setEmulatedMedia", features=[dark])

    def printed(self) -> bytes:
        """Return the page as PDF."""
        return base64.b64decode(self._call("Page.printToPDF")["data"])

    def picture(self, path: Path) -> None:
        """Write what is to be seen to a PNG file."""
        shot = self._call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))

    def _wait(self, expression: str, what: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while not self._evaluate(expression):
            assert time.monotonic() < deadline, f"no {what} in: {self._evaluate(_TEXT)}"

    def _evaluate(self, expression: str, context: int | None = None) -> Any:
        where = {} if context is None else {"contextId": context}
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, **where)
        return answer["result"].get("value")

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:  # events come in between
            answer = json.loads(self._socket.recv(_SECONDS))
            if _is_problem(answer):
                self.problems.append(json.dumps(answer["params"]))
            if answer.get("id") == number:
                if "error" in answer:
                    raise RefusedError(answer)
                return dict(answer["result"])


_TEXT = "document.body ? document.body.innerText.slice(0, 3000) : ''"


def _is_problem(event: dict[str, Any]) -> bool:
    of = event.get("params", {})
    return (
        event.get("method") == "Runtime.exceptionThrown"
        or (event.get("method") == "Log.entryAdded" and of["entry"]["level"] == "error")
        or (event.get("method") == "Runtime.consoleAPICalled" and of["type"] == "error")
    )


def _visible(selector: str) -> str:
    return f"[...document.querySelectorAll({json.dumps(selector)})].filter(e => e.offsetParent)"


@contextmanager
def page(folder: Path) -> Iterator[Page]:
    """Open an empty page of a browser whose profile is in `folder`."""
    assert CHROMIUM is not None
    profile = folder / "profile"
    command = [CHROMIUM, *FLAGS, "--window-size=1400,1000", f"--user-data-dir={profile}"]
    with (folder / "chromium.log").open("wb") as log:
        browser = subprocess.Popen(
            [*command, "--remote-debugging-port=0", "about:blank"], stdout=log, stderr=log
        )
    try:
        port = _port(browser, profile / "DevToolsActivePort")
        targets = httpx.get(f"http://127.0.0.1:{port}/json/list").json()
        [url] = [t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page"]
        with connect(url, max_size=None) as socket:
            yield Page(socket)
    finally:
        browser.terminate()
        browser.wait(20)


def _port(browser: subprocess.Popen[bytes], file: Path) -> int:
    deadline = time.monotonic() + _SECONDS
    while not (file.is_file() and file.read_text().strip()):
        assert browser.poll() is None, "Chromium has ended"
        assert time.monotonic() < deadline, "Chromium does not answer"
    return int(file.read_text().split()[0])
