"""Where the server listens is said in words to a person, and as JSON to a log."""

import io
import json
import sys

import pytest

from serving.logs import announce


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_the_url_in_words(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    announce("http://127.0.0.1:8000")
    assert sys.stderr.getvalue() == (
        "listening at http://127.0.0.1:8000, documented at http://127.0.0.1:8000/docs; "
        "stop with Ctrl-C\n"
    )


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://[::1]:8000"])
def test_a_log_has_one_line_of_json(monkeypatch, url):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    announce(url)
    line = json.loads(sys.stderr.getvalue())
    assert (line["message"], line["url"], line["docs"]) == ("listening", url, f"{url}/docs")
