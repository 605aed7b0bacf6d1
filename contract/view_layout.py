"""What the online store can say of a feature: the statuses that every reader judges alike."""

from __future__ import annotations

PRESENT = "present"
NULL = "null"
MISSING = "missing"
EXPIRED = "expired"
STATUSES = (PRESENT, NULL, MISSING, EXPIRED)
