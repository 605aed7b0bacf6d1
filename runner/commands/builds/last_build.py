"""Whether a `dbt build` would leave every table as it is, so that it may be left out.

It may when the last build of the same dbt models succeeded and since then nothing has changed that
it depends on: the project's files, variables and target (`runner.project.freshness`), the rows of
every source, and the built tables. The build must not depend on anything else either: the time,
chance, a query while dbt compiles, a table or function that dbt does not know of. In doubt, dbt
builds.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from runner.errors import RunnerError
from runner.project import freshness
from runner.project.compiled import compiled_models
from runner.project.introspection import asks_warehouse
from runner.project.manifest_file import ManifestFile, parents_of, read_manifest, upstream_first
from runner.settings import Settings
from runner.warehouse.open_states import table_states
from runner.warehouse.table_state import UnknownStateError

_NAME = "builds"
_CHANGES_BY_ITSELF = re.compile(
    r"""\b(now|timeofday|rand(om\w*)?|gen(_random|erate)_uuid|uuid\w*|nextval|currval|lastval
          | setseed|age|external_query|session_user
          | (clock|statement|transaction)_timestamp|dblink\w*|current_setting|pg_\w+|txid_\w+)\s*\(
      | \b(current_(date|time|timestamp|datetime)|localtime(stamp)?|tablesample|system_time)\b
      | '(now|today|tomorrow|yesterday)\b""",
    re.VERBOSE | re.IGNORECASE,
)
_HOOKS = {
    f"{{{{ {name}() }}}}"
    for name in (
        "session_in_utc",
        "sort_in_memory",
        "analyze_relation",
        "remember_sql",
        "create_feast_registry",
    )
}
"""The hooks of `runner init` and the shop: they change no row."""


@dataclass(frozen=True)
class KeptBuild:
    """What is known of the last build of some dbt models.

    Attributes
    ----------
    project
        The project's fingerprint then; empty: the build has not ended, or failed.
    finished_at
        When it ended, in UTC.
    states
        Table or view → digest of what it held: sources before the build, dbt models after it.
        Empty: not known.
    """

    project: str
    finished_at: str
    states: dict[str, str]


class LastBuild:
    """The last build of dbt models `names`, and whether another one is needed."""

    def __init__(self, settings: Settings, names: Sequence[str]) -> None:
        self._settings = settings
        self._key = " ".join(sorted(names))
        self._names = names
        self._project = freshness.fingerprint(settings)
        self._sources: dict[str, str] = {}

    def last(self) -> KeptBuild | None:
        """Return the last build of the same dbt models; None: nothing is known of it."""
        found = freshness.kept(self._settings, _NAME).get(self._key)
        return KeptBuild(**found) if found else None

    @property
    def other_sql(self) -> str:
        """Why the tables are of another state of the project; empty: no reason is known."""
        last = self.last()
        if last is None or self._project in {None, last.project}:
            return ""
        if not last.project:
            return "the last build did not succeed"
        return "the dbt project changed since it was last built"

    def unneeded(self) -> str:
        """Return why no build is needed; empty: one is, or that is not known."""
        last = self.last()
        if last is None or not last.states or last.project != self._project:
            return ""
        try:
            same = self._states() == last.states
        except UnknownStateError:
            return ""
        at = datetime.fromisoformat(last.finished_at)
        return f"nothing changed since the build of {at:%Y-%m-%d %H:%M} UTC" if same else ""

    def begin(self) -> None:
        """Note that a build begins, and what the sources hold: rows may come while dbt builds."""
        self._keep(KeptBuild("", "", {}))
        try:
            self._sources = self._read(BuildReads(self._content(), self._names).sources, ())
        except (UnknownStateError, RunnerError):  # or dbt has not read the project yet
            self._sources = {}

    def end(self) -> None:
        """Note that a build succeeded, and what it left."""
        if self._project is None or self._project != freshness.fingerprint(self._settings):
            return
        try:
            reads = self._reads()
            states = self._read(reads.tables - reads.sources, reads.views)
            states |= {name: self._sources[name] for name in reads.sources}
        except (UnknownStateError, KeyError):  # or a source is new in the manifest
            states = {}
        self._keep(KeptBuild(self._project, datetime.now(UTC).isoformat(), states))

    def _states(self) -> dict[str, str]:
        reads = self._reads()
        return self._read(reads.tables, reads.views)

    def _reads(self) -> BuildReads:
        """Return what a build reads and writes.

        Raises
        ------
        UnknownStateError
            If it depends on more.
        """
        if not freshness.is_current(self._settings):
            raise UnknownStateError("the project changed")
        reads = BuildReads(self._content(), self._names)
        reads.require_nothing_else()
        return reads

    def _read(self, tables: Collection[str], views: Collection[str]) -> dict[str, str]:
        queries = " ".join(BuildReads(self._content(), self._names).queries)
        return table_states(self._settings, tables, views, queries)

    def _content(self) -> ManifestFile:
        return read_manifest(self._settings.manifest_path)

    def _keep(self, build: KeptBuild) -> None:
        kept = freshness.kept(self._settings, _NAME)
        freshness.keep(self._settings, _NAME, kept | {self._key: vars(build)})


class BuildReads:
    """What a build of dbt models `names`, and of all upstream of them, reads and writes.

    Attributes
    ----------
    sources
        Tables that dbt does not build.
    tables
        Everything that has rows of its own, sources too.
    views
        The dbt models that are views.
    queries
        The SQL of dbt models and their tests.
    """

    def __init__(self, content: ManifestFile, names: Sequence[str]) -> None:
        self._content = content
        self._nodes = {**content["nodes"], **content["sources"]}
        self._models = compiled_models(content, names)
        self._keys = upstream_first(self._nodes, names)
        read = {name for model in self._models for name in (*model.parents, *model.tested)}
        self.sources = read & {node.get("relation_name") for node in content["sources"].values()}
        self.views = {model.relation for model in self._models if model.materialized == "view"}
        self.tables = (read | {model.relation for model in self._models}) - self.views
        self.queries = [sql for model in self._models for sql in (model.sql, *model.tests.values())]

    def require_nothing_else(self) -> None:
        """Raise where the build depends on more than tables that dbt knows of."""
        kinds = {self._nodes[key]["resource_type"] for key in self._keys}
        if not kinds <= {"model", "seed", "source"}:
            raise UnknownStateError("a snapshot is built")
        tests = (
            key
            for key, node in self._content["nodes"].items()
            if node["resource_type"] == "test" and {*parents_of(node)} & {*self._keys}
        )
        if asks_warehouse(self._content, [*self._keys, *tests], full_refresh=True):
            raise UnknownStateError("dbt asks the warehouse while it compiles")
        from runner.lineage.tables_read import tables_besides  # sqlglot takes 0.3 s to import

        dialect = self._content["metadata"].get("adapter_type") or "postgres"
        for model in self._models:
            if model.materialized not in {"view", "table", "incremental"} or not model.sql:
                raise UnknownStateError(f"{model.name}: not compiled, or not a table")
            known = [*model.parents, model.relation]  # an increment reads its own table
            if tables_besides(model.sql, dialect, known) != []:
                raise UnknownStateError(f"{model.name} reads tables that dbt does not know of")
        if any(hook not in _HOOKS for hook in self._hooks()):
            raise UnknownStateError("a hook of the project may do anything")
        if any(self._nodes[key]["config"].get("sql_header") for key in self._keys):
            raise UnknownStateError("sql_header may do anything")
        if any(map(_CHANGES_BY_ITSELF.search, self.queries)):
            raise UnknownStateError("the time or chance decides what a query returns")

    def _hooks(self) -> Iterator[str]:
        """Yield the hooks that a build runs: those of the run, and those of what it builds."""
        for node in self._content["nodes"].values():
            if node["resource_type"] == "operation":
                yield node.get("raw_code", "").strip()
        for key in self._keys:
            config = self._nodes[key]["config"]
            for hook in (*config.get("pre-hook", ()), *config.get("post-hook", ())):
                yield hook["sql"].strip()
