"""`runner materialize`, `runner audit` and `runner online get`: the online store's values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runner import console
from runner.errors import RunnerError
from runner.feature_store.selection import require_none_left_out, select_marts
from runner.project.manifest import FeatureMart, Manifest, load_manifest
from runner.recipes.recipe import load_recipe
from runner.recipes.reference_rules import covers
from runner.recipes.references import check_references
from runner.servers.local_servers import require_servers
from runner.settings import Settings

if TYPE_CHECKING:
    from runner.commands.builds.view_guard import GuardedViews
    from runner.online.audit import FeatureAudit
    from runner.online.reader import OnlineAnswer
    from runner.online.view_report import ViewReport
    from runner.records.served_versions import ServedFeature


def materialize(
    settings: Settings, chosen: Sequence[str], *, full: bool, accepted: str = ""
) -> tuple[list[ViewReport], list[RunnerError]]:
    """Copy the newest values of the chosen feature marts to Redis.

    Returns what was done per view, and an error per view that could not be copied, or must not:
    served versions read it, and were trained on another definition.

    Parameters
    ----------
    chosen
        Names of feature marts and paths of recipes; empty: all that are online and, unless a served
        version reads them, built, and views that are no longer online in dbt are removed.
    accepted
        Why features may change under a served version, which is retired then; empty: they must not.
    """
    from runner.online.departed import remove_departed_views

    require_servers(settings)
    manifest = load_manifest(settings.manifest_path)
    guarded = _guarded(settings, manifest, chosen, accepted)
    errors: list[RunnerError] = [*guarded.refusals.values()]
    removed: list[str] = []
    if not chosen and not guarded.unknown:
        removed, kept = remove_departed_views(settings, manifest, guarded.needed, console.note)
        errors += [guarded.departed(view) for view in kept]
    marts = select_marts(settings, chosen)
    if not marts and not removed and not errors:
        console.note(f"nothing to copy or remove: no feature mart in {manifest.path} is online")
    copied = [mart for mart in marts if mart.name not in guarded.refusals]
    unbuilt = set() if chosen or guarded.unknown else {mart.name for mart in copied}
    unbuilt -= guarded.needed.keys()
    reports, failed = _copy(settings, copied, guarded, skip_unbuilt=unbuilt, full=full)
    errors += failed
    if not chosen:
        try:
            require_none_left_out(settings)
        except RunnerError as err:
            errors.append(err)
    return reports, errors


def _guarded(
    settings: Settings, manifest: Manifest, chosen: Sequence[str], accepted: str
) -> GuardedViews:
    """Return what stays as it is for served versions; nothing once they are retired."""
    from runner.commands.builds.view_guard import guarded_views
    from runner.online.departed import departed_views

    marts = [mart for mart in manifest.marts.values() if mart.online]
    guarded = guarded_views(settings, manifest, select_marts(settings, chosen) if chosen else marts)
    if not accepted:
        return guarded
    if guarded.unknown:
        raise guarded.unknown
    departed = [] if chosen else departed_views(manifest, guarded.needed)
    guarded.retire(settings, departed, accepted)
    return guarded.accepted()


def _copy(
    settings: Settings,
    marts: Sequence[FeatureMart],
    guarded: GuardedViews,
    *,
    skip_unbuilt: Collection[str],
    full: bool,
) -> tuple[list[ViewReport], Sequence[RunnerError]]:
    from runner.online.materialize import materialize as copy_marts
    from runner.online.view_report import MaterializeError

    if not marts:
        return [], []
    with console.bar("materialize", None) as bar:
        try:
            reports = copy_marts(
                settings,
                marts,
                full=full,
                digests=guarded.digests,
                keep_what_left=guarded.unknown is not None,
                skip_unbuilt=skip_unbuilt,
                progress=lambda _view, rows: bar.advance(rows),
                note=console.note,
            )
        except MaterializeError as err:
            return list(err.reports), err.errors
    return reports, []


def audit(
    settings: Settings, path: Path, entities: int
) -> tuple[list[FeatureAudit], list[RunnerError]]:
    """Compare Redis with the point-in-time join for the features of the recipe and its champion.

    Returns each feature's count, and an error per view whose features are no longer what the
    champion was trained on: both stores have the same values then, and the wrong ones for it.

    Parameters
    ----------
    entities
        How many to sample per view, from each of the two stores.
    """
    from runner.commands.builds.view_guard import guarded_views
    from runner.online.audit import audit as audit_recipe

    recipe, manifest = load_recipe(path), load_manifest(settings.manifest_path)
    check_references(recipe, manifest)
    require_servers(settings)
    guarded = guarded_views(settings, manifest, list(manifest.marts.values()))
    taken = guarded.taken_by(recipe.registered_model_name)
    references = [each.reference for each in taken if _is_known(manifest, each)]
    more = [each for each in references if not covers(recipe.features, each)]
    features = tuple(dict.fromkeys([*recipe.features, *more]))
    audited = recipe.model_copy(update={"features": features})
    with console.step(f"audit {recipe.name}"):
        found = audit_recipe(settings, manifest, audited, entities=entities)
    views = {each.view for each in taken}
    return found, [error for view, error in guarded.refusals.items() if view in views]


def _is_known(manifest: Manifest, taken: ServedFeature) -> bool:
    mart = manifest.marts.get(taken.view)
    return mart is not None and any(feature.name == taken.feature for feature in mart.features)


def look_up(settings: Settings, view: str, entity: Sequence[str]) -> OnlineAnswer:
    """Return what Redis holds of one entity of a view.

    Parameters
    ----------
    entity
        Its join keys, each as `key=value`.
    """
    from runner.online.reader import get_online, parse_entity

    mart = select_marts(settings, [view])[0]
    keys = parse_entity(mart, entity)
    require_servers(settings, ["Redis"])
    return get_online(settings, mart, keys)
