"""`python -m serving`: serve the model that the environment names."""

from __future__ import annotations

import os

from serving.errors import ServingError
from serving.server import exit_with, run
from serving.settings import ServingSettings


def main() -> None:
    """Serve until told to stop; an expected failure is one error and one hint."""
    try:
        run(ServingSettings.from_env(os.environ))
    except ServingError as err:
        exit_with(err.message, err.hint)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
