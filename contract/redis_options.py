"""The options in the query of `REDIS_URL`: each is known, and has one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

from contract.serving_errors import ConfigurationError

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def read_options(
    query: str, known: Sequence[str], said: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the options of the query, and those given before it in the address.

    Raises
    ------
    ConfigurationError
        If one is not among the known, or has two values.
    """
    found = dict(said or {})
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise ConfigurationError(
                f"REDIS_URL: the option {name} is not supported",
                hint=f"remove it; the supported options are {', '.join(known)}",
            )
        if found.setdefault(name, value) != value:
            raise ConfigurationError(
                f"REDIS_URL has two values for {name}", hint="remove one of them"
            )
    return found


def read_flag(options: Mapping[str, str], name: str, prefix: str = "", *, default: bool) -> bool:
    """Return the value of an option that is true or false.

    Raises
    ------
    ConfigurationError
        If it is neither.
    """
    found = _BOOLEANS.get(options[name].lower()) if name in options else default
    if found is None:
        raise ConfigurationError(
            f"REDIS_URL: {prefix}{name} is neither true nor false",
            hint=f"remove it: {str(default).lower()} is the default",
        )
    return found
