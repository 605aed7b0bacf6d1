"""Whether a version would receive the features it was trained on if it became the champion.

The online store decides, because an answer depends on what is stored: a definition that changed in
dbt alone reaches no answer, since `runner materialize` refuses it once the version is the champion.
A feature that dbt no longer has is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping

from contract.bundle import Bundle
from contract.serving_errors import ServingError
from runner import console
from runner.errors import RunnerError
from runner.packaging.served_version import require_features
from runner.project.manifest import FeatureMart, load_manifest
from runner.settings import Settings

_ACCEPT = '--accept-changed-features "REASON"'
_WAYS_ON = (
    "if dbt has built the features as the version takes them, run `runner materialize`; or "
    "promote a version that was trained on the present features (`runner models` lists versions), "
    "or undo the change to the mart and run `runner materialize`; or repeat with "
    f"{_ACCEPT}: the version then answers with the changed features"
)


def accepted_reason(settings: Settings, bundle: Bundle, version: str, accepted: str) -> str:
    """Return `accepted` if the version's features are no longer what it was trained on, else "".

    Parameters
    ----------
    version
        The version as errors name it.
    accepted
        Why it may receive other features; empty: it must not.

    Raises
    ------
    RunnerError
        If it must not, and would.
    """
    try:
        _require_same(settings, bundle, version)
    except RunnerError as err:
        if not accepted:
            raise
        console.warn(err.message)
        return accepted
    return ""


def _require_same(settings: Settings, bundle: Bundle, version: str) -> None:
    marts = _known_marts(settings, bundle)
    if marts is not None:
        try:
            require_features(bundle, marts, version)
        except RunnerError as err:
            raise RunnerError(err.message, hint=f"{err.hint}; or repeat with {_ACCEPT}") from err
    changed = _changed_online(settings, bundle, version)
    if changed:
        raise RunnerError(
            f"{version} was trained on another definition of {', '.join(changed)} than Redis has",
            hint=_WAYS_ON,
        )


def _known_marts(settings: Settings, bundle: Bundle) -> Mapping[str, FeatureMart] | None:
    """Return the feature marts of the model's dbt project; None if dbt has not read it here."""
    try:
        manifest = load_manifest(settings.manifest_path)
    except RunnerError:  # a fault in the project must not prevent a rollback
        return None
    return manifest.marts if bundle.lineage.get("dbt_project") == manifest.project_name else None


def _changed_online(settings: Settings, bundle: Bundle, version: str) -> list[str]:
    """Return the features that Redis has another definition of; none while it does not answer."""
    from redis.exceptions import RedisError

    from runner.online.connection import connect
    from runner.online.online_config import load_online_config
    from runner.online.stored_features import changed_online

    try:
        with connect(settings, load_online_config(settings)) as connection:
            return changed_online(connection, bundle)
    except (RunnerError, ServingError, RedisError) as err:
        console.warn(f"features of {version} not compared with the online store: {err}")
        return []
