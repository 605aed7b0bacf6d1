"""docs/cli.md matches the commands."""

from tests.cli_reference import PAGE, page


def test_the_reference_is_current():
    assert PAGE.read_text() == page(), "run `python -m tests.cli_reference`"
