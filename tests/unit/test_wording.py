"""How messages count."""

from runner.wording import counted


def test_one_thing_is_in_the_singular():
    assert counted(1, "row") == "1 row"
    assert counted(0, "row") == "0 rows"
    assert counted(1_200, "entry", "entries") == "1,200 entries"
