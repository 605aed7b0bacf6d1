"""What BigQuery bills for queries: its limit per query, its refusals, and what a job was billed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from runner.errors import RunnerError

LIMIT = "BIGQUERY_MAXIMUM_BYTES_BILLED"
# BigQuery bills whole MiB: 10 at least for each table that a query reads.
_MIB = 2**20
_TIB = 2**40
LEAST_BILLED = 10 * _MIB
_REFUSAL = re.compile(r"Query exceeded limit for bytes billed: (\d+)\. (\d+) or higher required")


@dataclass(frozen=True)
class Billed:
    """The bytes of one query, or of several together."""

    bytes_processed: int
    bytes_billed: int

    def __add__(self, other: Billed) -> Billed:
        return Billed(
            self.bytes_processed + other.bytes_processed, self.bytes_billed + other.bytes_billed
        )


NOTHING_BILLED = Billed(0, 0)


class Expected(NamedTuple):
    """What a warehouse expects of a query: its rows and its bill; None: it cannot say."""

    rows: int | None
    bill: Billed | None


def expected_bill(bytes_processed: int, tables: int) -> int:
    """Return the most that a query which reads `bytes_processed` of `tables` tables is billed for.

    How many of the bytes are whose is not known: the bill is highest where one table has them all.
    """
    if not bytes_processed:
        return 0
    whole = -(-bytes_processed // _MIB) * _MIB
    return max(whole, LEAST_BILLED) + max(tables - 1, 0) * LEAST_BILLED


def query_usd(bytes_billed: float, price_per_tib: float) -> float:
    """Return the price in USD of so many bytes billed."""
    return bytes_billed / _TIB * price_per_tib


def refusal(what: str, message: str) -> RunnerError | None:
    """Return BigQuery's refusal of a query above the limit as our error; None if it is none.

    Parameters
    ----------
    what
        What the query is for, such as `dbt model user_activity`.
    message
        What BigQuery said.
    """
    found = _REFUSAL.search(message)
    return over_limit(what, needed=int(found[2]), limit=int(found[1])) if found else None


def over_limit(what: str, *, needed: int, limit: int) -> RunnerError:
    """Return the error for a query that would be billed for more bytes than the limit."""
    return RunnerError(
        f"{what} would be billed for {needed:,} bytes, more than {LIMIT}={limit} allows",
        hint=f"read less, or set {LIMIT} to {needed} or more; `runner plan <recipe>` shows every "
        "query's bytes",
    )


def read_bill(step: str, metadata: Mapping[bytes, bytes] | None) -> dict[str, Billed]:
    """Return what a step's read was billed, from its schema's metadata; empty on PostgreSQL."""
    if not metadata or b"bytes_billed" not in metadata:
        return {}
    return {step: Billed(int(metadata[b"bytes_processed"]), int(metadata[b"bytes_billed"]))}


def as_metrics(billed: Mapping[str, Billed]) -> dict[str, float]:
    """Return MLflow metrics: bytes processed and billed by step, and their sums."""
    metrics: dict[str, float] = {}
    if not billed:
        return metrics
    for name, found in {**billed, "total": sum(billed.values(), NOTHING_BILLED)}.items():
        metrics[f"bytes_processed.{name}"] = found.bytes_processed
        metrics[f"bytes_billed.{name}"] = found.bytes_billed
    return metrics
