"""One round of `runner refresh`: collect, build what new rows touch, copy what changed to Redis."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from redis.exceptions import RedisError

from runner import console
from runner.commands.builds.feature_guard import require_unchanged
from runner.commands.builds.other_sql import is_built_otherwise
from runner.commands.online.online_values import materialize
from runner.commands.online.round_outcome import Round, RoundError
from runner.commands.served.collection import collect
from runner.errors import RunnerError
from runner.online.connection import connect
from runner.online.lease import Lease, holding
from runner.online.online_config import load_online_config
from runner.online.refresh_state import BuiltFrom, RefreshState
from runner.online.view_report import ViewReport
from runner.project import dbt, freshness
from runner.project.dbt_results import FailedNodesError
from runner.project.manifest import FeatureMart, Manifest
from runner.project.manifest_file import (
    ManifestFile,
    parents_of,
    read_manifest,
    selector_of,
    upstream_first,
)
from runner.project.warm_dbt import WarmDbt
from runner.recipes.recipe import load_recipe
from runner.records.served_versions import served_versions
from runner.servers.local_servers import require_servers
from runner.settings import Settings
from runner.warehouse.open_marks import table_marks


class Refresher:
    """Runs rounds for the marts of some recipes, with one dbt process.

    Parameters
    ----------
    recipes
        Their paths; empty: the marts that versions with an alias read.
    """

    def __init__(self, settings: Settings, recipes: Sequence[Path]) -> None:
        self._settings = settings
        self._recipes = recipes
        self._dbt = WarmDbt(settings)
        self._advised: set[str] = set()

    def round(self) -> Round:
        """Run one round; waits while another process runs one.

        Raises
        ------
        RunnerError
            If a step fails; the next round does what this one left. Marts that dbt built without
            an error were copied.
        """
        started = time.perf_counter()
        require_servers(self._settings)
        config = load_online_config(self._settings)
        with connect(self._settings, config) as connection:
            lease = Lease(connection, config.project, "the features", work="refresh")
            state = RefreshState(connection, config.project)
            with holding(lease, console.note), console.quiet_steps():
                try:
                    done = self._steps(state, started)
                except Exception as err:  # whatever it is, `runner status` shows that it failed
                    with suppress(RedisError):
                        state.note_failed(str(err).partition("\n")[0])
                    raise
                state.note_done(done.newest, done.compared)
        return done

    def close(self) -> None:
        """End dbt."""
        self._dbt.close()

    def _steps(self, state: RefreshState, started: float) -> Round:
        manifest = dbt.up_to_date(self._settings, _ignore)
        rows, errors = self._collect()
        marts = self._marts(manifest)
        built: list[str] = []
        copied = marts
        try:
            built = self._build(state, marts)
        except FailedNodesError as err:
            errors.append(err)
            copied = _whole_marts(self._settings, marts, err.failed)
            if not copied:
                raise RoundError(errors, []) from err
        reports, failed = materialize(self._settings, [mart.name for mart in copied], full=False)
        if failed:
            state.note_built(_names(marts), None)  # a table may be gone: the next round builds it
        errors += failed
        self._advise(reports)
        if errors:
            raise RoundError(errors, reports)
        return Round.of(rows, built, reports, time.perf_counter() - started)

    def _advise(self, reports: Sequence[ViewReport]) -> None:
        """Warn once of each view whose rounds cost more than they need to."""
        for report in reports:
            if report.advice and report.advice not in self._advised:
                self._advised.add(report.advice)
                console.warn(f"{report.view}: {report.advice}")

    def _collect(self) -> tuple[int, list[RunnerError]]:
        """Return how many rows were moved, and why others wait, which does not stop the round."""
        try:
            done = collect(self._settings, None)
        except RunnerError as err:
            return 0, [err]
        return done.written + sum(events.written for events in done.events), done.errors

    def _marts(self, manifest: Manifest) -> list[FeatureMart]:
        if self._recipes:
            views = {view for path in self._recipes for view in load_recipe(path).feature_marts}
        else:
            versions = served_versions(self._settings, manifest)
            views = {taken.view for version in versions for taken in version.features}
        marts = [mart for name, mart in manifest.marts.items() if name in views and mart.online]
        if not marts:
            raise RunnerError(
                "there is nothing to refresh: no model version with an alias reads a feature mart "
                "that is online"
                if not self._recipes
                else "there is nothing to refresh: the recipes read no feature mart that is online",
                hint="name recipes, such as `runner refresh recipes/rf.yaml`, or train one first",
            )
        return marts

    def _build(self, state: RefreshState, marts: Sequence[FeatureMart]) -> list[str]:
        """Build what changed since the last round; return the names of the dbt models."""
        names = [mart.name for mart in marts]
        content = read_manifest(self._settings.manifest_path)
        keys = upstream_first({**content["nodes"], **content["sources"]}, names)
        tables = {
            str(content["sources"][key].get("relation_name")): key
            for key in keys
            if key in content["sources"]
        }
        project = freshness.fingerprint(self._settings)
        marks = table_marks(self._settings, tables)
        before = state.built_from(_names(marts))
        if before is None or not before.covers(project, marks):
            self._run_dbt(names, [f"+{mart.selector or mart.name}" for mart in marts], whole=True)
            built = names
        else:
            same = {name for name, mark in marks.items() if before.marks.get(name) == mark}
            changed = [key for name, key in tables.items() if name not in same]
            touched = [content["nodes"][key] for key in _touched(content, keys, changed)]
            if touched:
                self._run_dbt(names, [selector_of(node) for node in touched], whole=False)
            built = [node["name"] for node in touched]
        state.note_built(_names(marts), BuiltFrom(project, marks))
        return built

    def _run_dbt(self, marts: Sequence[str], selected: Sequence[str], *, whole: bool) -> None:
        """Run `dbt build`.

        Parameters
        ----------
        whole
            Whether the SQL may have changed: an incremental mart that changed, or whose change was
            undone, is then rebuilt from scratch, as in training.
        """
        changed = require_unchanged(self._settings, marts, "", _ignore)
        undone = whole and is_built_otherwise(self._settings, marts, _ignore)
        # Unit tests are of the SQL, which training has built; tests of rows look at the new ones.
        arguments = ["build", "--no-fail-fast", "--exclude-resource-type", "unit_test"]
        arguments += ["--full-refresh"] if undone or (changed and whole) else []
        arguments += ["--indirect-selection", "buildable", "--select", *selected]
        dbt.run_alone(self._settings, arguments, _ignore, program=self._dbt)


def _touched(content: ManifestFile, keys: Sequence[str], changed: Collection[str]) -> Iterator[str]:
    """Yield the dbt models among `keys`, parents first, whose rows follow from changed sources."""
    touched = set(changed)
    for key in keys:
        node = content["nodes"].get(key)
        if node is None or not touched.intersection(parents_of(node)):
            continue
        touched.add(key)
        if node["config"].get("materialized") not in {"view", "ephemeral"}:
            yield key


def _whole_marts(
    settings: Settings, marts: Sequence[FeatureMart], failed: Collection[str]
) -> list[FeatureMart]:
    """Return the marts that neither failed nor read what did, and none of whose tests failed."""
    nodes = read_manifest(settings.manifest_path)["nodes"]
    tests = [key for key in failed if key in nodes and nodes[key]["resource_type"] == "test"]
    broken = {*failed}.union(*(parents_of(nodes[key]) for key in tests))
    return [mart for mart in marts if broken.isdisjoint(upstream_first(nodes, [mart.name]))]


def _names(marts: Sequence[FeatureMart]) -> str:
    return " ".join(mart.name for mart in marts)


def _ignore(_text: str) -> None:
    """Show nothing: a round is one line."""
