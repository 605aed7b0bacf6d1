"""The champion moved by hand: promotion of a version, and the way back."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from contract.bundle import Bundle
from runner.commands.builds.exposures import write_exposures
from runner.commands.models.promoted_features import accepted_reason
from runner.errors import RunnerError
from runner.packaging.served_version import load_version
from runner.records import registry
from runner.records.registry import CHALLENGER, CHAMPION, CHAMPION_UNTIL, version_with
from runner.records.run_facts import RETIRED

if TYPE_CHECKING:
    from runner.settings import Settings


def promote(
    settings: Settings,
    name: str,
    number: str | None,
    accepted: str = "",
    accepted_days: str = "",
) -> tuple[str, str]:
    """Make a version the champion, whatever its gate said.

    Parameters
    ----------
    number
        The version; None for the challenger.
    accepted
        Why it may receive other features than it was trained on: it then answers as a retired
        version does. Empty: it must not.
    accepted_days
        Why it need not answer as a shadow on as many days as its recipe demands; empty: it must.

    Returns
    -------
    tuple of str
        The champion's version, and the one before; "" if there was none.

    Raises
    ------
    RunnerError
        If there is no such model or version, its features have changed, or it did not answer as a
        shadow for long enough.
    ServingError
        If its serving bundle is not intact: what cannot be served does not become the champion.
    """
    client = registry.connect(settings)
    registry.require_model(client, name)
    wanted = number or _challenger(client, name)
    _require(client, name, wanted)
    champion = version_with(client, name, CHAMPION)
    present = _version(champion)
    bundle, retired = _checked(settings, name, wanted, accepted)
    if champion is not None and present != wanted and RETIRED not in champion.tags:
        _require_shadow(settings, client, bundle, (wanted, present), accepted_days)
    registry.promote(client, name, wanted)  # of the champion too: it ends what was interrupted
    _retire(client, name, wanted, retired)
    write_exposures(settings)
    return wanted, present


def rollback(settings: Settings, name: str, accepted: str = "") -> tuple[str, str]:
    """Make the champion before the present one the champion again.

    The present one gets the tag `rolled_back_at` and none that says it was the champion: a later
    rollback does not return to it.

    Parameters
    ----------
    accepted
        As `promote` takes it.

    Returns
    -------
    tuple of str
        The champion's version, and the one that was rolled back.

    Raises
    ------
    RunnerError
        If there is no such model, no champion or none before it, or that one's features have
        changed.
    ServingError
        If the serving bundle of the one before is not intact.
    """
    client = registry.connect(settings)
    registry.require_model(client, name)
    present = version_with(client, name, CHAMPION)
    if present is None:
        raise RunnerError(
            f"{name} has no champion to roll back", hint=f"run `runner promote {name} VERSION`"
        )
    before = _champion_before(client, name, str(present.version))
    _, retired = _checked(settings, name, before, accepted)
    if CHAMPION_UNTIL in present.tags:  # it was the champion more than once
        client.delete_model_version_tag(name, str(present.version), CHAMPION_UNTIL)
    now = datetime.now(UTC).isoformat()
    client.set_model_version_tag(name, str(present.version), "rolled_back_at", now)
    client.set_registered_model_alias(name, CHAMPION, before)
    _retire(client, name, before, retired)
    write_exposures(settings)
    return before, str(present.version)


def _checked(settings: Settings, name: str, number: str, accepted: str) -> tuple[Bundle, str]:
    """Return the version's bundle, and why it may receive other features, if it would."""
    model, _ = load_version(settings, f"models:/{name}/{number}")
    version = f"{name} version {number}"
    return model.bundle, accepted_reason(settings, model.bundle, version, accepted)


def _retire(client: MlflowClient, name: str, number: str, reason: str) -> None:
    """Tag a version that receives other features, so that it does not prevent their change."""
    if reason:
        client.set_model_version_tag(name, number, RETIRED, reason)


def _champion_before(client: MlflowClient, name: str, present: str) -> str:
    """Return the last version that was the champion, was not rolled back and is not retired."""
    earlier = [
        version
        for version in registry.versions_of(client, name)
        if str(version.version) != present
        and CHAMPION_UNTIL in version.tags
        and RETIRED not in version.tags
    ]
    if not earlier:
        raise RunnerError(
            f"{name} had no champion before version {present} that was neither rolled back nor "
            "retired",
            hint=f"choose a version yourself: runner promote {name} VERSION",
        )
    return str(max(earlier, key=lambda version: version.tags[CHAMPION_UNTIL]).version)


def _challenger(client: MlflowClient, name: str) -> str:
    challenger = version_with(client, name, CHALLENGER)
    if challenger is None:
        raise RunnerError(
            f"{name} has no challenger to promote",
            hint=_known(registry.versions_of(client, name)),
        )
    return str(challenger.version)


def _require_shadow(
    settings: Settings,
    client: MlflowClient,
    bundle: Bundle,
    versions: tuple[str, str],
    accepted: str,
) -> None:
    """Raise unless a version answered beside the champion for as long as its recipe demands."""
    wanted, champion = versions
    tags = client.get_model_version(bundle.registered_model_name, wanted).tags
    if "min_shadow_days" not in bundle.recipe or CHAMPION_UNTIL in tags:  # it was the champion
        return
    if accepted:
        client.set_model_version_tag(
            bundle.registered_model_name, wanted, "accepted_shadow_days", accepted
        )
        return
    from runner.commands.models.live_beside import require_shadow_days
    from runner.monitoring.shadow_days import ShadowVersion

    require_shadow_days(settings, ShadowVersion.of(wanted, asdict(bundle)), champion)


def _require(client: MlflowClient, name: str, number: str) -> None:
    versions = registry.versions_of(client, name)
    if number not in {str(version.version) for version in versions}:
        raise RunnerError(f"{name} has no version {number}", hint=_known(versions))


def _known(versions: list[ModelVersion]) -> str:
    if not versions:
        return "it has no version: run `runner train` with its recipe"
    return f"versions: {', '.join(str(version.version) for version in reversed(versions))}"


def _version(version: ModelVersion | None) -> str:
    return "" if version is None else str(version.version)


def change_of_champion(name: str, champion: str, before: str) -> str:
    """Return a sentence about which version is the champion, and which one was."""
    if champion == before:
        return f"{name} version {champion} is the champion already."
    was = f"it was version {before}" if before else "there was none"
    return f"{name} version {champion} is the champion now; {was}."
