"""A project in Python: the training rows, predictions and online features as DataFrames.

Each method does what a command of `runner` does, and raises the same `RunnerError`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from runner.errors import RunnerError
from runner.settings import load_settings

if TYPE_CHECKING:
    from runner.records.run_facts import VersionFacts
    from runner.settings import Settings


class Project:
    """A project, in the folder of its `dbt_project.yml`.

    Parameters
    ----------
    folder
        That folder or one below it.
    target
        `local` or `cloud`; None: `APP_ENV`, else `local`.

    Examples
    --------
    >>> project = Project(".")
    >>> frame = project.training_frame("recipes/rf.yaml")
    >>> keys = frame[["user_id", "category_id"]]
    >>> predictions = project.champion("category_purchase_rf").predict(keys)
    """

    def __init__(self, folder: str | Path = ".", target: str | None = None) -> None:
        self._settings = load_settings(target, Path(folder))

    @property
    def folder(self) -> Path:
        """The folder of `dbt_project.yml`."""
        return self._settings.root

    @property
    def target(self) -> str:
        """`local` or `cloud`."""
        return self._settings.target

    def training_frame(self, recipe: str | Path) -> pd.DataFrame:
        """Return the recipe's training rows: see `training_table`.

        Whole numbers, flags and texts have pandas' nullable types.
        """
        return _frame(self.training_table(recipe))

    def training_table(self, recipe: str | Path) -> pa.Table:
        """Return the recipe's training rows: keys, times, label, features as they were known then.

        Builds the SQL and joins, as `runner train` does; fits and records nothing.

        Parameters
        ----------
        recipe
            Its path, relative to the project's folder.
        """
        from runner.commands.training.joined_rows import joined_rows
        from runner.recipes.recipe import load_recipe
        from runner.servers.local_servers import require_servers

        with _own_environment():
            require_servers(self._settings)
            return joined_rows(self._settings, load_recipe(self.folder / recipe))

    def champion(self, model: str | Path) -> Champion:
        """Return the champion of a registered model.

        Parameters
        ----------
        model
            The model's registered name, or the path of its recipe.
        """
        from runner.commands.models.model_argument import registered_name

        is_recipe = str(model).endswith((".yaml", ".yml"))
        name = registered_name(str(self.folder / model if is_recipe else model))
        return Champion(self._settings, name)


class Champion:
    """The version of a registered model that serving uses: each call asks which one that is.

    Attributes
    ----------
    name
        The model's registered name.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self.name = name

    @property
    def version(self) -> str:
        """Its number."""
        return self._facts().version

    @property
    def run_id(self) -> str:
        """The id of the MLflow run that trained it."""
        return self._facts().run_id

    @property
    def scores(self) -> dict[str, float]:
        """Scorer → its score on test rows."""
        from runner.records.run_facts import require_run
        from runner.records.run_reader import open_reader

        with _own_environment():
            return require_run(open_reader(self._settings), self._facts()).scores

    def predict(
        self, keys: pd.DataFrame | pa.Table, time_zone: str = "UTC", *, explain: bool = False
    ) -> pd.DataFrame:
        """Return `keys` with a prediction per row, in their order, as `runner predict` writes them.

        Parameters
        ----------
        keys
            Entity keys, request inputs and, optionally, `event_timestamp`: features are as of then,
            or as of now. Other columns are kept.
        time_zone
            Of times without one.
        explain
            Whether to add `base_value` and, for each model input, `contribution_<input>`.
        """
        from runner.commands.predictions.prediction import predict
        from runner.commands.predictions.prediction_output import OutputFile

        with _own_environment(), TemporaryDirectory() as folder:
            source, output = Path(folder, "keys.parquet"), Path(folder, "predictions.parquet")
            pq.write_table(_table(keys), source)
            try:
                champion = f"models:/{self.name}@champion"
                predict(
                    self._settings,
                    champion,
                    str(source),
                    OutputFile(output),
                    time_zone,
                    explain=explain,
                )
            except RunnerError as err:
                message = err.message.replace(str(source), "keys")
                raise RunnerError(message, hint=err.hint) from err
            return _like(keys, pq.read_table(output))

    def online(self, keys: pd.DataFrame | pa.Table) -> pd.DataFrame:
        """Return `keys` with a column per feature of the model, as Redis has it now.

        A value that is missing, expired or null is NA; `missing_views` names the views without
        values.
        """
        from runner.commands.online.online_frame import online_table

        with _own_environment():
            return _like(keys, online_table(self._settings, self.name, _table(keys)))

    def _facts(self) -> VersionFacts:
        from runner.records.run_facts import CHAMPION, with_alias
        from runner.records.run_reader import open_reader, require_registered

        with _own_environment():
            reader = open_reader(self._settings)
            require_registered(reader, self.name)
            found = with_alias(reader.versions(self.name), CHAMPION)
        if found is None:
            raise RunnerError(
                f"{self.name} has no champion", hint=f"run `runner promote {self.name}`"
            )
        return found


def _table(keys: pd.DataFrame | pa.Table) -> pa.Table:
    if isinstance(keys, pd.DataFrame):
        return pa.Table.from_pandas(keys, preserve_index=False)
    return keys


def _frame(table: pa.Table) -> pd.DataFrame:
    from runner.feature_store.nullable_types import NULLABLE

    frame: pd.DataFrame = table.to_pandas(types_mapper=NULLABLE.get)
    return frame


def _like(keys: pd.DataFrame | pa.Table, table: pa.Table) -> pd.DataFrame:
    """Return the table as a DataFrame, with the index of `keys` if they have one."""
    frame = _frame(table)
    return frame.set_axis(keys.index) if isinstance(keys, pd.DataFrame) else frame


@contextmanager
def _own_environment() -> Iterator[None]:
    """Undo what the commands export for Feast and MLflow: another project would read it."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
