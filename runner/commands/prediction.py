"""Batch scoring: entity keys from a file or a spine, features point-in-time, one prediction a row.

The champion's serving bundle scores, the same that answers over HTTP, so both give equal answers
for equal features.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from runner import console
from runner.errors import RunnerError
from runner.features.store import NULLABLE, open_store, spine_query
from runner.modelling.served_version import load_version
from runner.project.manifest import EVENT_TIMESTAMP, load_manifest
from runner.servers.local_servers import require_servers
from runner.settings import Settings
from serving.bundle import Bundle
from serving.scoring import Model

_KEY_TYPES = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", "UTC"),
}


@dataclass(frozen=True)
class Written:
    """How many predictions of which model version were written."""

    model: str
    rows: int


def predict(settings: Settings, name: str, source: str, output: Path) -> Written:
    """Write one prediction per row of `source` to `output`; nothing is left half-written.

    Parameters
    ----------
    name
        A registered model with a champion.
    source
        A Parquet or CSV file with the entity keys and, optionally, `event_timestamp` (UTC; now if
        absent), or the name of a spine. Its columns stand before the predictions, in its order.
    output
        A .parquet or .csv file; replaced if it exists.

    Raises
    ------
    RunnerError
        If the source is not what is expected, or the model has no champion.
    """
    if output.suffix not in {".parquet", ".csv"} or not output.parent.is_dir():
        raise RunnerError(
            f"{output}: not a .parquet or .csv file in a folder that exists",
            hint="name another --output",
        )
    require_servers(settings)
    model, version = load_version(settings, f"models:/{name}@champion")
    entity_df = _entities(settings, model.bundle, source)
    store = open_store(settings)
    references = [f"{feature.view}:{feature.feature}" for feature in model.bundle.features]
    job = store.get_historical_features(
        entity_df=entity_df, features=references, full_feature_names=True
    )
    rows = 0
    with (
        console.bar(f"predict with {name} version {version}", None) as bar,
        job.to_arrow_batches() as reader,
        _written(output, _scored(model, reader.schema.empty_table()).schema) as write,
    ):
        for batch in reader:
            write(_scored(model, pa.Table.from_batches([batch])))
            rows += batch.num_rows
            bar.advance(batch.num_rows)
    return Written(f"{name} version {version}", rows)


def _scored(model: Model, table: pa.Table) -> pa.Table:
    """Return the rows without their features, with `prediction` and a column per class."""
    names = [feature.name for feature in model.bundle.features]
    kept = table.drop_columns(names)
    predictions = model.score({name: table[name] for name in names})
    kept = kept.append_column("prediction", pa.array(predictions.labels))
    if predictions.probabilities is not None:
        for number, label in enumerate(model.bundle.label.classes or ()):
            column = pa.array(predictions.probabilities[:, number])
            kept = kept.append_column(f"probability_{label}", column)
    return kept


def _entities(settings: Settings, bundle: Bundle, source: str) -> pd.DataFrame | str:
    if source.endswith((".parquet", ".csv")):
        return _file_entities(bundle, Path(source))
    spines = load_manifest(settings.manifest_path).spines
    if source not in spines:
        close = difflib.get_close_matches(source, spines, n=1)
        raise RunnerError(
            f"{source!r} is neither a .parquet or .csv file nor a spine",
            hint=f"did you mean {close[0]}?" if close else f"spines: {', '.join(sorted(spines))}",
        )
    spine = spines[source]
    _require_keys(bundle, set(spine.columns), source)
    return spine_query(spine, list(spine.columns))


def _file_entities(bundle: Bundle, path: Path) -> pd.DataFrame:
    keys = {key.name: _KEY_TYPES[key.dtype] for key in bundle.entity_keys}
    try:
        table = _read(path, keys)
        _require_keys(bundle, set(table.column_names), str(path))
        _refuse_unusable(table, list(keys), path)
        for name, kind in keys.items():
            position = table.column_names.index(name)
            table = table.set_column(position, name, table[name].cast(kind))
    except OSError as err:
        raise RunnerError(
            f"{path}: cannot be read ({err.strerror or err})", hint="check the path"
        ) from err
    except pa.ArrowException as err:
        wanted = ", ".join(f"{key.name} {key.dtype}" for key in bundle.entity_keys)
        raise RunnerError(f"{path}: {err}", hint=f"entity keys of this model: {wanted}") from err
    _refuse_taken(bundle, table.column_names, path)
    rows: pd.DataFrame = table.to_pandas(types_mapper=NULLABLE.get)
    if EVENT_TIMESTAMP not in rows:
        rows[EVENT_TIMESTAMP] = pd.Timestamp(datetime.now(UTC))
    else:
        rows[EVENT_TIMESTAMP] = _instants(rows[EVENT_TIMESTAMP], path)
    return rows


def _refuse_unusable(table: pa.Table, keys: list[str], path: Path) -> None:
    """Raise for a column that is there twice, no rows, and a row without key or time."""
    names = table.column_names
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise RunnerError(f"{path}: has two columns {twice[0]!r}", hint="rename or drop one")
    if table.num_rows == 0:
        raise RunnerError(f"{path}: has no rows", hint="write one row per entity into it")
    for name in [*keys, *({EVENT_TIMESTAMP} & set(names))]:
        if table[name].null_count:
            first = table[name].is_null().index(True).as_py() + 1
            raise RunnerError(
                f"{path}: {name} is empty in {table[name].null_count} of {len(table)} rows, first "
                f"in row {first}",
                hint=f"fill in {name}, or drop those rows",
            )


def _instants(times: pd.Series[Any], path: Path) -> pd.Series[Any]:
    """Return the times in UTC; without a zone they are UTC."""
    given = times if pd.api.types.is_datetime64_any_dtype(times) else times.astype(str)
    instants = pd.to_datetime(given, utc=True, format="ISO8601", errors="coerce")
    # Beyond these years Feast and pandas, in nanoseconds, would wrap around.
    wrong = ~instants.dt.year.between(1678, 2261)
    if wrong.any():
        position = int(wrong.to_numpy().argmax())
        raise RunnerError(
            f"{path}: {EVENT_TIMESTAMP} in row {position + 1} is no time: {times.iloc[position]}",
            hint="write times as 2026-01-31T12:00:00Z or with an offset",
        )
    return instants


def _refuse_taken(bundle: Bundle, columns: list[str], path: Path) -> None:
    """Raise if a column has the name of one that is written: two of a name cannot be read."""
    written = ["prediction", *(f"probability_{label}" for label in bundle.label.classes or ())]
    taken = [name for name in columns if name in written]
    if taken:
        raise RunnerError(
            f"{path}: has a column {taken[0]!r}, which the predictions would have too",
            hint=f"rename or drop {', '.join(taken)} in the file",
        )


def _read(path: Path, keys: dict[str, pa.DataType]) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    options = pyarrow.csv.ConvertOptions(column_types=keys, strings_can_be_null=True)
    return pyarrow.csv.read_csv(path, convert_options=options)


def _require_keys(bundle: Bundle, columns: set[str], source: str) -> None:
    missing = [key.name for key in bundle.entity_keys if key.name not in columns]
    if missing:
        raise RunnerError(
            f"{source}: no column {missing[0]!r}",
            hint=f"this model needs {', '.join(key.name for key in bundle.entity_keys)}",
        )


@contextmanager
def _written(output: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """Give a function that writes rows to a file which replaces `output` when all are written."""
    part = output.with_name(f".{output.name}.part")
    kind = pq.ParquetWriter if output.suffix == ".parquet" else pyarrow.csv.CSVWriter
    try:
        with kind(part, schema) as writer:
            yield writer.write_table
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
