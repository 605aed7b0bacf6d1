"""`runner lineage` ends at Ctrl-C, whatever MLflow is doing."""

from pathlib import Path
from threading import Event

import pytest

from runner.commands import lineage
from runner.settings import Settings


def test_ctrl_c_does_not_wait_for_mlflow(monkeypatch):
    given_up, looked_up = Event(), Event()

    def versions(settings):
        given_up.wait(20)
        looked_up.set()

    def interrupted(settings, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(lineage, "_versions", versions)
    monkeypatch.setattr(lineage, "compiled_lineage", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            lineage.ask(Settings("local", Path(), {}), "a.b")
        assert not looked_up.is_set()
    finally:
        given_up.set()
