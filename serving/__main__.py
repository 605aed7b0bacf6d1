"""`python -m serving`: serve the model that the environment names."""

from __future__ import annotations

import gc
import os
import sys

from contract.serving_errors import ServingError
from contract.serving_settings import ServingSettings


def main() -> None:
    """Serve until asked to stop; an expected failure is one error and one hint."""
    # Nothing imported is garbage: looking for some takes a seventh of the imports' CPU. The server
    # allows it again once it has started.
    gc.disable()
    try:
        from serving.server import run  # may refuse the installed uvicorn

        run(ServingSettings.from_env(os.environ))
    except ServingError as err:
        hint = f"hint: {err.hint}\n" if err.hint else ""
        sys.stderr.write(f"error: {err.message}\n{hint}")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
