"""What dbt says of a failure, as one short line: the message, without what surrounds it."""

from __future__ import annotations

import re
import textwrap

TWO_WRITERS = re.compile(
    r"""__dbt_(tmp|backup)\w*"?\ (already\ exists|does\ not\ exist)
      | tuple\ concurrently\ (updated|deleted)
      | deadlock\ detected
      | could\ not\ open\ relation\ with\ OID
      | could\ not\ serialize\ access   # BigQuery's too
      | unique\ constraint\ "pg_(class|namespace|type)_\w+"
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""What a database says when two dbt build the same tables at once."""
_LONGEST = 400
_PLACE = re.compile(r"\w+ Error in .*\((?P<file>.+)\)$")
_AROUND = re.compile(
    r"""(Encountered\ an\ error:|Raw\ Error:|\w+\ Error)$
      | \^+$                    # a pointer into the line above
      | >\ (in|called\ by)\     # the stack of macros
      | compiled\ code\ at\     # our hint names that file
      | \d+\s*\|                # the lines of a file with a wrong one
      | [|\s-]*$                # rules and empty lines
      | Please\ ensure\         # a long sentence before the table of a broken contract
    """,
    re.VERBOSE,
)


def essence(message: str, file: str = "") -> str:
    """Return dbt's message as one line of at most 400 characters.

    PostgreSQL's `LINE 3: …`, `DETAIL:` and `HINT:`, and the rows of a table, follow after `;`.

    Parameters
    ----------
    file
        Where it happened, if whoever asks says so already.
    """
    lines = [line.strip() for line in message.splitlines()]
    told = [_plain(line) for line in lines if not (_AROUND.match(line) or _names(file, line))]
    text = "; ".join(told) or " ".join(message.split()) or "no message"
    return textwrap.shorten(text, _LONGEST, placeholder=" …")


def database_error(message: str) -> str:
    """Return what the database said, as `essence` does, in dbt's message of a dbt unit test.

    Empty if it said nothing: the dbt model gave other rows than were expected, or dbt refused the
    test itself.
    """
    _, found, told = message.partition("Database Error\n")
    return essence(told) if found else ""


def _names(file: str, line: str) -> bool:
    """Return whether the line only says where, such as `Database Error in model x (file)`."""
    place = _PLACE.match(line)
    return place is not None and place["file"] == file


def _plain(line: str) -> str:
    """Return a table's row with commas for its bars, any line without the mark at its end."""
    if line.startswith("|"):
        return ", ".join(cell for cell in map(str.strip, line.split("|")) if cell)
    return re.sub(r"(?<![.])[.,:;]$", "", " ".join(line.split()))
