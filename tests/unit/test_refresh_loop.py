"""`runner refresh --every`: a round that fails is a line, and the next one goes on."""

import re
import signal

import pytest

from runner.commands.online.refresh_loop import _go_on
from runner.errors import RunnerError


class Failing:
    """What does a round: it fails, and the second time asks the loop to end."""

    rounds = 0

    def round(self):
        self.rounds += 1
        if self.rounds == 2:
            signal.raise_signal(signal.SIGTERM)
        raise RunnerError("Redis does not answer", hint="start it")


def test_a_failed_round_is_a_line_with_the_time_in_utc_and_the_loop_goes_on(capsys):
    failing = Failing()
    _go_on(failing, 0, lambda _: None)
    assert failing.rounds == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert re.search(r"\d\d:\d\d:\d\d UTC  ?Redis does not answer; start it", lines[0])


class Interrupted:
    """A round in which Ctrl-C is pressed `times`."""

    def __init__(self, times):
        self.times = times
        self.ended = 0

    def round(self):
        for _ in range(self.times):
            signal.raise_signal(signal.SIGINT)
        self.ended += 1


def test_ctrl_c_lets_the_round_end_and_a_second_one_interrupts_it():
    once, twice = Interrupted(1), Interrupted(2)
    _go_on(once, 0, lambda _: None)
    assert once.ended == 1
    with pytest.raises(KeyboardInterrupt):
        _go_on(twice, 0, lambda _: None)
    assert twice.ended == 0
