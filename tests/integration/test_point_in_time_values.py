"""What the join refuses, and what it keeps: times, names, keys and types at their edges."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pytest
from feast import Entity, FeatureView, Field
from feast.types import Array, Float32, Float64, Int64, String, UnixTimestamp
from feast.value_type import ValueType

from runner.errors import RunnerError
from runner.settings import PostgresAddress
from tests.feast_stores import feast_store, source

NOON = dt.datetime(2024, 6, 1, 12, tzinfo=dt.UTC)
SPINE = "select 1 as id, timestamptz '2024-06-01 12:00+00' as event_timestamp"
Retrieve = Callable[..., pa.Table]
INDEXED = pytest.mark.parametrize("indexed", [True, False])
TIMES = pytest.mark.parametrize(
    "time", ["infinity", "-infinity", "4713-01-01 BC", "0001-12-31 BC", "10000-01-01"]
)


@pytest.fixture(scope="module")
def connection(module_database: PostgresAddress) -> Iterator[Any]:
    with psycopg.connect(**module_database.conninfo, autocommit=True) as connection:
        connection.execute("create type mood as enum ('sad', 'glad')")
        yield connection


@pytest.fixture
def retrieve(
    connection: Any, module_database: PostgresAddress, tmp_path: Path
) -> Iterator[Retrieve]:
    """Make a table by SQL, and join features of it to a spine."""
    made = []

    def start(
        columns: str, spine: Any = SPINE, *, indexed: bool = True, **options: Any
    ) -> pa.Table:
        name = options.pop("table", "facts")
        connection.execute(f'create table "{name}" as {columns}')
        made.append(name)
        if indexed:
            connection.execute(f'create index on "{name}" (id, event_timestamp)')
        features = options.pop("features", {"x": Int64})
        kind = options.pop("key", ValueType.INT64)
        full = options.pop("full", False)
        view_name = options.pop("view", "facts")
        entity = Entity(name="id", join_keys=["id"], value_type=kind)
        view = FeatureView(
            name=view_name,
            entities=[entity],
            schema=[Field(name=n, dtype=dtype) for n, dtype in features.items()],
            source=source(
                view_name, options.pop("relation", f'"{name}"'), created=options.pop("created", "")
            ),
            **options,
        )
        store = feast_store(module_database, tmp_path, [entity, view])
        references = [f"{view_name}:{feature}" for feature in features]
        return store.get_historical_features(spine, references, full_feature_names=full).to_arrow()

    yield start
    for name in made:
        connection.execute(f'drop table "{name}"')


def _fact(time: str = "2024-06-01", more: str = "7 as x") -> str:
    return f"select 1::bigint as id, timestamptz '{time}' as event_timestamp, {more}"


def _refused(message: str) -> Any:
    return pytest.raises(RunnerError, match=message)


@INDEXED
@TIMES
def test_a_spine_time_that_is_none_is_refused_with_a_count(
    retrieve: Retrieve, time: str, indexed: bool
) -> None:
    spine = f"{SPINE} union all select 1, '{time}' from generate_series(1, 2)"
    with _refused(
        r"the spine: event_timestamp is infinite or outside the years 1 to 9999 in 2 of 3"
    ):
        retrieve(_fact(), spine, indexed=indexed)


@pytest.mark.parametrize("kind", ["timestamp", "date", "timestamptz"])
@INDEXED
def test_a_feature_time_of_minus_infinity_is_refused(
    retrieve: Retrieve, indexed: bool, kind: str
) -> None:
    facts = f"""
        select 1::bigint as id, t::{kind} as event_timestamp, 7 as x
        from (values ('-infinity'), ('0044-03-15 BC'), ('infinity')) as f(t)
    """
    with _refused("feature view facts: event_timestamp is infinite .* in 3 rows, such as"):
        retrieve(facts, indexed=indexed)


@INDEXED
def test_a_created_time_of_minus_infinity_is_refused(retrieve: Retrieve, indexed: bool) -> None:
    facts = _fact(more="timestamptz '-infinity' as created_at, 7 as x")
    with _refused("feature view facts: created_at is infinite .* in 1 rows, such as -infinity"):
        retrieve(facts, indexed=indexed, created="created_at")


@INDEXED
def test_a_time_that_never_comes_is_never_visible(retrieve: Retrieve, indexed: bool) -> None:
    table = retrieve(_fact("infinity"), indexed=indexed)
    assert table.column("x").to_pylist() == [None]


@INDEXED
@TIMES
def test_a_feature_that_is_a_time_that_is_none_is_refused(
    retrieve: Retrieve, time: str, indexed: bool
) -> None:
    features = {"x": UnixTimestamp, "many": Array(UnixTimestamp)}
    facts = _fact(more=f"now() as x, array[timestamptz '{time}'] as many")
    with _refused("feature view facts: many is infinite or outside the years 1 to 9999 in 1 of 1"):
        retrieve(facts, indexed=indexed, features=features)


@pytest.mark.parametrize("time", ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"])
def test_the_first_and_the_last_time_come_back(retrieve: Retrieve, time: str) -> None:
    facts = _fact("0001-01-01", more=f"timestamptz '{time}+00' as x")
    spine = "select 1 as id, timestamptz '9999-12-31 23:59:59.999999+00' as event_timestamp"
    table = retrieve(facts, spine, features={"x": UnixTimestamp})
    assert table.column("x").to_pylist() == [dt.datetime.fromisoformat(f"{time}+00:00")]


LONG = "customer_category_affinity_rolling_windows"
FEATURES = [f"{letter}_orders_count_last_30_days_excluding_returns" for letter in "ab"]


@INDEXED
@pytest.mark.parametrize("count", [1, 2])
def test_a_name_of_more_than_63_bytes_comes_back_whole(
    retrieve: Retrieve, count: int, indexed: bool
) -> None:
    names = FEATURES[:count]
    facts = _fact(more=", ".join(f'{n} as "{name}"' for n, name in enumerate(names)))
    features = dict.fromkeys(names, Int64)
    table = retrieve(facts, indexed=indexed, features=features, view=LONG, full=True)
    expected = {f"{LONG}__{name}": n for n, name in enumerate(names)}
    assert {name: table.column(name).to_pylist() for name in expected} == {
        name: [n] for name, n in expected.items()
    }


def test_a_name_of_63_letters_of_two_bytes_comes_back_whole(retrieve: Retrieve) -> None:
    table = retrieve(
        _fact(more='7 as "größe"'), features={"größe": Int64}, view="ä" * 60, full=True
    )
    assert table.column("ä" * 60 + "__größe").to_pylist() == [7]


@pytest.mark.parametrize(
    "relation",
    [
        'select * from "{0}"',
        "select * from SPINE_OF_MINE",
        'select * from U&"\\0073pine_of_mine"',
        'select * from (with spine as (select * from "{0}") select * from Spine) as s',
        "select * from \"{0}\" where $$spine v1 v1_versions$$ > ''",
    ],
)
def test_a_source_is_what_its_sql_says(connection: Any, retrieve: Retrieve, relation: str) -> None:
    connection.execute(
        "create view spine_of_mine as select 1::bigint as id, "
        "timestamptz '2024-06-01' as event_timestamp, 7 as x"
    )
    try:
        table = retrieve(_fact(), relation=relation.format("facts"))
    finally:
        connection.execute("drop view spine_of_mine")
    assert table.column("x").to_pylist() == [7]


@pytest.mark.parametrize("name", ["spine", "SPINE", "v1", "given", "source"])
@pytest.mark.parametrize("relation", ['"{}"', "{}", 'select * from "{}"', "select * from {}"])
def test_a_table_with_a_name_like_ours_is_itself(
    retrieve: Retrieve, name: str, relation: str
) -> None:
    table = name if '"' in relation else name.lower()
    spine = f"select id, event_timestamp + interval '1h' as event_timestamp from \"{table}\""
    found = retrieve(_fact(), spine, table=table, relation=relation.format(name))
    assert found.column("x").to_pylist() == [7]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([1717243200], "column event_timestamp of the entity DataFrame holds int64"),
        ([1717243200.5], "holds float64"),
        ([True], "holds bool"),
        (["infinity"], "no time of the years"),
        (["07/06/2024"], "no time of the years"),
        ([dt.datetime(9999, 1, 1, tzinfo=dt.UTC)], "no time of the years"),
        ([[1, 2]], "names no time"),
    ],
)
def test_a_frame_time_that_names_no_instant_is_refused(
    retrieve: Retrieve, times: list[Any], message: str
) -> None:
    with _refused(message):
        retrieve(_fact(), pd.DataFrame({"id": [1], "event_timestamp": times}))


@INDEXED
def test_an_array_of_arrays_is_refused(retrieve: Retrieve, indexed: bool) -> None:
    facts = _fact(more="array[array[1, 2], array[3, 4]]::bigint[] as x")
    with _refused("column x holds an array with dimensions: 2"):
        retrieve(facts, indexed=indexed, features={"x": Array(Int64)})


@INDEXED
def test_an_array_of_arrays_in_a_spine_is_refused(retrieve: Retrieve, indexed: bool) -> None:
    with _refused("column m holds an array with dimensions: 2"):
        retrieve(_fact(), f"{SPINE}, array[array[1], array[2]] as m", indexed=indexed)


@pytest.mark.parametrize("value", ["12.34", "0.1", "0.30000000000000004", "'NaN'", "null"])
def test_a_spines_numeric_that_a_double_holds_is_one(retrieve: Retrieve, value: str) -> None:
    table = retrieve(_fact(), f"{SPINE}, {value}::numeric as amount")
    found = table.column("amount").to_pylist()[0]
    assert str(found) == {
        "'NaN'": "nan",
        "null": "None",
    }.get(value, value)


@pytest.mark.parametrize("value", ["9007199254740993", "0.12345678901234567891"])
def test_a_spines_numeric_of_more_digits_is_refused(retrieve: Retrieve, value: str) -> None:
    spine = f"{SPINE}, n::numeric as amount from (values ({value})) as given_here(n)"
    with _refused(f"column amount of the spine is numeric, .* does not hold all digits of {value}"):
        retrieve(_fact(), spine)


@pytest.mark.parametrize(
    ("sql", "declared", "told"),
    [
        ("1.5::double precision", Int64, "INT64 but its column is float8"),
        ("'1'::text", Int64, "INT64 but its column is text"),
        ("0.1::double precision", Float32, "FLOAT but its column is float8"),
        ("array[1]::bigint[]", Int64, r"INT64 but its column is int8\[\]"),
        ("true", Float64, "DOUBLE but its column is bool"),
        ("1", UnixTimestamp, "UNIX_TIMESTAMP but its column is int4"),
    ],
)
def test_a_feature_of_another_type_than_declared_is_refused(
    retrieve: Retrieve, sql: str, declared: Any, told: str
) -> None:
    with _refused(f"feature x is declared {told}"):
        retrieve(_fact(more=f"{sql} as x"), features={"x": declared})


def test_a_feature_declared_a_string_is_its_text(retrieve: Retrieve) -> None:
    assert retrieve(_fact(more="7 as x"), features={"x": String}).column("x").to_pylist() == ["7"]


ID = uuid.UUID("00000000-0000-0000-0000-00000000000a")
DAY = dt.date(2024, 5, 1)
KEYS: dict[str, tuple[str, list[Any], list[Any]]] = {
    "smallint": ("1::smallint", [1, 100_000], [7, None]),
    "smallint, narrow": ("1::smallint", list(np.array([1, 2], "int8")), [7, None]),
    "enum": ("'glad'::mood", ["glad", "unheard of"], [7, None]),
    "uuid": (f"'{ID}'::uuid", [str(ID), None], [7, None]),
    "date": (f"date '{DAY}'", [DAY, None], [7, None]),
    "char": ("'a'::char(3)", ["a", "b"], [7, None]),
    "bool": ("true", [True, None], [7, None]),
    "timestamp": ("timestamp '2024-05-01'", list(pd.to_datetime(["2024-05-01", None])), [7, None]),
}


@INDEXED
@pytest.mark.parametrize("kind", KEYS)
def test_a_frames_keys_find_what_is_equal(retrieve: Retrieve, kind: str, indexed: bool) -> None:
    value, keys, expected = KEYS[kind]
    frame = pd.DataFrame({"id": keys, "event_timestamp": NOON})
    facts = f"select {value} as id, timestamptz '2024-05-01' as event_timestamp, 7 as x"
    assert retrieve(facts, frame, indexed=indexed).column("x").to_pylist() == expected


@pytest.mark.parametrize(
    ("value", "keys", "hint"),
    [
        (f"'{ID}'::uuid", [ID], r"astype\(str\)"),
        (f"'{ID}'::uuid", [1], r"astype\(str\)"),
        (f"date '{DAY}'", ["2024-05-01"], r"dt\.date"),
        ("1.5::numeric", [1], r"`cast\(id as bigint\)` or `cast\(id as text\)` in the SQL"),
        ("1.5::float", [1.5], r"`cast\(id as bigint\)` or `cast\(id as text\)` in the SQL"),
        ("1", ["1"], r"astype\('Int64'\)"),
    ],
)
def test_a_frames_keys_of_another_kind_are_refused_with_the_cast(
    retrieve: Retrieve, value: str, keys: list[Any], hint: str
) -> None:
    frame = pd.DataFrame({"id": keys, "event_timestamp": NOON})
    facts = f"select {value} as id, timestamptz '2024-05-01' as event_timestamp, 7 as x"
    with pytest.raises(RunnerError) as refused:
        retrieve(facts, frame)
    assert refused.match("id")
    assert re.search(hint, refused.value.hint)


@INDEXED
@pytest.mark.parametrize(
    ("spine_key", "table_key"),
    [
        ("'glad'::text", "'glad'::mood"),
        ("'glad'::mood", "'glad'::mood"),
        ("1::numeric", "1::bigint"),
        ("date '2024-05-01'", "timestamp '2024-05-01'"),
        ("date '2024-05-01'", "date '2024-05-01'"),
        ("1::bigint", "1::smallint"),
        ("1::smallint", "1::smallint"),
        (f"'{ID}'::uuid", f"'{ID}'::uuid"),
        ("true", "true"),
    ],
)
def test_a_spines_keys_find_what_is_equal(
    retrieve: Retrieve, spine_key: str, table_key: str, indexed: bool
) -> None:
    facts = f"select {table_key} as id, timestamptz '2024-05-01' as event_timestamp, 7 as x"
    spine = f"select {spine_key} as id, timestamptz '2024-06-01' as event_timestamp"
    assert retrieve(facts, spine, indexed=indexed).column("x").to_pylist() == [7]


@pytest.mark.parametrize(
    ("value", "given", "table_key", "column"),
    [
        ("'a'", ["a"], "true", "bool"),
        ("1", [1], f"'{ID}'::uuid", "uuid"),
        ("1", [1], "date '2024-05-01'", "date"),
        ("1", [1], "'glad'::mood", "mood"),
        ("true", [True], "'a'::text", "text"),
        ("'1'", ["1"], "1::smallint", "int2"),
    ],
)
def test_keys_of_another_kind_are_refused_with_the_cast_in_sql_and_in_a_frame(
    retrieve: Retrieve, value: str, given: list[Any], table_key: str, column: str
) -> None:
    facts = f"select {table_key} as id, timestamptz '2024-05-01' as event_timestamp, 7 as x"
    hints = set()
    for spine in (
        f"select {value} as id, now() as event_timestamp",
        pd.DataFrame({"id": given, "event_timestamp": NOON}),
    ):
        with pytest.raises(RunnerError) as refused:
            retrieve(facts, spine, table=f"t{type(spine).__name__}")
        told = rf"join key id is \w+ in the spine but {column} in feature view \w+"
        assert re.fullmatch(told, refused.value.message)
        hints.add(refused.value.hint)
    [hint] = hints
    assert hint.startswith(f"write `cast(id as {column})` in the spine's SQL; in a DataFrame: ")


@INDEXED
def test_a_key_with_a_fraction_of_a_second_is_refused(retrieve: Retrieve, indexed: bool) -> None:
    facts = (
        "select timestamptz '2024-05-01' as id, timestamptz '2024-05-01' as event_timestamp, 7 as x"
    )
    spine = "select timestamptz '2024-05-01 00:00:00.5+00' as id, now() as event_timestamp"
    frame = pd.DataFrame(
        {"id": pd.to_datetime(["2024-05-01 00:00:00.5+00:00"]), "event_timestamp": NOON}
    )
    for entities in (spine, frame):
        with _refused("join key id has a fraction of a second: 2024-05-01 00:00:00.5"):
            retrieve(facts, entities, indexed=indexed, table=f"t{type(entities).__name__}")


def test_a_unique_index_says_nothing_of_the_tables_that_inherit(
    connection: Any, retrieve: Retrieve
) -> None:
    connection.execute("create table parent (id bigint, event_timestamp timestamptz, x bigint)")
    connection.execute("create unique index on parent (id, event_timestamp)")
    connection.execute("create table child () inherits (parent)")
    connection.execute("insert into parent values (1, '2024-05-01', 1)")
    connection.execute("insert into child values (1, '2024-05-01', 9), (1, '2024-05-01', 8)")
    table = retrieve(_fact(), relation="parent")
    connection.execute("drop table parent cascade")
    assert table.column("x").to_pylist() == [9]


def test_partitions_are_joined_by_the_index_they_all_have(
    connection: Any, retrieve: Retrieve
) -> None:
    connection.execute(
        "create table whole (id bigint, event_timestamp timestamptz, x bigint) "
        "partition by range (event_timestamp)"
    )
    for year in (2023, 2024):
        connection.execute(
            f"create table part_{year} partition of whole "
            f"for values from ('{year}-01-01') to ('{year + 1}-01-01')"
        )
    connection.execute("create unique index on whole (id, event_timestamp)")
    connection.execute("insert into whole values (1, '2023-05-01', 1), (1, '2024-05-01', 9)")
    table = retrieve(_fact(), relation="whole")
    connection.execute("drop table whole")
    assert table.column("x").to_pylist() == [9]


@INDEXED
def test_more_features_than_a_query_may_return_columns_come_back(
    connection: Any, module_database: PostgresAddress, tmp_path: Path, indexed: bool
) -> None:
    entity = Entity(name="id", join_keys=["id"], value_type=ValueType.INT64)
    kinds = [(Int64, "{n}::bigint"), (String, "'t{n}'"), (Array(Int64), "array[{n}]::bigint[]")]
    views = []
    for number in range(3):
        columns = [f"{kinds[n % 3 if n < 30 else 0][1].format(n=n)} as f{n}" for n in range(700)]
        facts = _fact(more=", ".join([*columns, "null::int8 as none"]))
        connection.execute(f"create table wide{number} as {facts}")
        if indexed:
            connection.execute(f"create index on wide{number} (id, event_timestamp)")
        fields = [Field(name=f"f{n}", dtype=kinds[n % 3 if n < 30 else 0][0]) for n in range(700)]
        fields.append(Field(name="none", dtype=Int64))
        relation = source(f"wide{number}", f"wide{number}", created="")
        views.append(
            FeatureView(name=f"wide{number}", entities=[entity], schema=fields, source=relation)
        )
    store = feast_store(module_database, tmp_path, [entity, *views])
    references = [f"{view.name}:{field.name}" for view in views for field in view.features]
    spine = f"{SPINE} union all select 2, '2024-06-01' union all {SPINE} order by id desc"
    frame = pd.DataFrame({"id": [2, 1, 1], "event_timestamp": NOON})
    for entities in (spine, frame):
        table = store.get_historical_features(
            entities, references, full_feature_names=True
        ).to_arrow()
        assert table.column_names[2:] == [name.replace(":", "__") for name in references]
        found = {name: table.column(f"wide1__{name}").to_pylist() for name in ("f0", "f1", "f2")}
        assert found == {"f0": [None, 0, 0], "f1": [None, "t1", "t1"], "f2": [None, [2], [2]]}
        assert table.column("wide2__f699").to_pylist() == [None, 699, 699]
        assert table.column("wide2__none").to_pylist() == [None] * 3
    for number in range(3):
        connection.execute(f"drop table wide{number}")
