"""The store behind Feast's public API: services, renamed keys, odd names, pulls, persistence."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pyarrow as pa
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, RequestSource
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    SavedDatasetPostgreSQLStorage,
)
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String
from feast.value_type import ValueType

from runner.errors import RunnerError
from runner.settings import PostgresAddress
from runner.warehouse.postgres.offline_store import (
    PointInTimePostgreSQLOfflineStore,
    PointInTimePostgreSQLOfflineStoreConfig,
)
from tests.feast_stores import OURS, STOCK, feast_store, source

DAY = timedelta(days=1)
TABLES = '''
create table rating (team text, event_timestamp timestamptz, created_at timestamptz, elo bigint);
insert into rating values
    ('ajax', '2024-05-01+00', '2024-05-01+00', 1500),
    ('ajax', '2024-05-02+00', '2024-05-02+00', 1510),
    ('ajax', '2024-05-02+00', '2024-05-04+00', 1520),
    ('psv', '2024-05-01+00', '2024-05-01+00', 1400),
    ('psv', '2024-05-01+00', '2024-05-01+00', null),
    ('psv', '2024-05-01+00', '2024-05-01+00', 1401);
create index on rating (team, event_timestamp, created_at);
create schema "Mixed Case";
create table "Mixed Case"."Select" (
    "user" bigint, "group by" text, "Zeit" timestamptz, "from" bigint, "spine_row" bigint,
    "version" bigint, "naïve ""x""" bigint
);
insert into "Mixed Case"."Select" values (1, 'a;b', '2024-05-01+00', 2, 3, 4, 5);
create table spine (id bigint, event_timestamp timestamptz, v1 bigint);
insert into spine values (1, '2024-05-01+00', 10);
create table climate (event_timestamp timestamptz, created_at timestamptz, co2 double precision);
insert into climate values ('2024-05-01+00', '2024-05-01+00', 426.9);
create view rating_view as select * from rating;
'''
MATCHES = """
select * from (values
    (1, 'ajax', 'psv', timestamptz '2024-05-03 00:00+00'),
    (2, 'psv', 'ajax', timestamptz '2024-05-05 00:00+00'),
    (3, null, 'none', timestamptz '2024-05-05 00:00+00')
) as match (id, home, away, event_timestamp)
"""


@pytest.fixture(scope="module")
def connection(module_database: PostgresAddress) -> Iterator[Any]:
    with psycopg.connect(**module_database.conninfo, autocommit=True) as connection:
        connection.execute(TABLES)
        yield connection


TEAM = Entity(name="team", join_keys=["team"], value_type=ValueType.STRING)
USER = Entity(name="user", join_keys=["user"], value_type=ValueType.INT64)
GROUP = Entity(name="group", join_keys=["group by"], value_type=ValueType.STRING)
ID = Entity(name="id", join_keys=["id"], value_type=ValueType.INT64)
RATING = FeatureView(
    name="rating",
    entities=[TEAM],
    schema=[Field(name="team", dtype=String), Field(name="elo", dtype=Int64)],
    source=source("rating", "rating"),
)
ODD_NAMES = ["from", "spine_row", "version", 'naïve "x"']
ODD = FeatureView(
    name="odd",
    entities=[USER, GROUP],
    schema=[
        Field(name="user", dtype=Int64),
        Field(name="group by", dtype=String),
        *(Field(name=name, dtype=Int64) for name in ODD_NAMES),
    ],
    source=source("odd", '"Mixed Case"."Select"', created="", timestamp_field="Zeit"),
)
NAMED_SPINE = FeatureView(
    name="named_spine",
    entities=[ID],
    schema=[Field(name="id", dtype=Int64), Field(name="v1", dtype=Int64)],
    source=source("named_spine", "spine", created=""),
)
CLIMATE = FeatureView(
    name="climate",
    entities=[],
    schema=[Field(name="co2", dtype=Float64)],
    source=source("climate", "climate"),
)


@on_demand_feature_view(
    sources=[RATING, RequestSource(name="bonus", schema=[Field(name="bonus", dtype=Int64)])],
    schema=[Field(name="elo_with_bonus", dtype=Int64)],
)
def adjusted(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"elo_with_bonus": inputs["elo"] + inputs["bonus"]})


MATCH_SERVICE = FeatureService(
    name="match",
    features=[
        RATING.with_name("home").with_join_key_map({"team": "home"}),
        RATING.with_name("away").with_join_key_map({"team": "away"}),
    ],
)


@pytest.fixture(scope="module")
def store(
    connection: Any, module_database: PostgresAddress, tmp_path_factory: pytest.TempPathFactory
) -> FeatureStore:
    objects = [TEAM, USER, GROUP, ID, RATING, ODD, NAMED_SPINE, CLIMATE, adjusted, MATCH_SERVICE]
    return feast_store(module_database, tmp_path_factory.mktemp("feast"), objects)


def test_one_entity_may_stand_twice_in_a_spine(store: FeatureStore) -> None:
    table = store.get_historical_features(
        entity_df=MATCHES, features=store.get_feature_service("match"), full_feature_names=True
    ).to_arrow()
    assert table.column("id").to_pylist() == [1, 2, 3]
    assert table.column("home__elo").to_pylist() == [1510, 1401, None]
    assert table.column("away__elo").to_pylist() == [1401, 1520, None]


def test_a_view_without_entities_joins_by_time_alone(store: FeatureStore) -> None:
    times = pd.to_datetime(["2024-04-30", "2024-05-02"], utc=True)
    frame = pd.DataFrame({"event_timestamp": times})
    found = store.get_historical_features(entity_df=frame, features=["climate:co2"]).to_df()
    assert found["co2"].isna().tolist() == [True, False]


@pytest.mark.parametrize("is_frame", [False, True])
def test_reserved_words_mixed_case_and_quotes_are_names_like_any_other(
    store: FeatureStore, is_frame: bool
) -> None:
    spine: Any = (
        'select 1::bigint as "user", \'a;b\' as "group by", \'x;y\' as "LABEL %s", '
        "timestamptz '2024-05-02+00' as event_timestamp -- the end"
    )
    if is_frame:
        spine = pd.DataFrame(
            {
                "user": [1],
                "group by": ["a;b"],
                "LABEL %s": ["x;y"],
                "event_timestamp": pd.Timestamp("2024-05-02", tz="UTC"),
            }
        )
    features = [f"odd:{name}" for name in ODD_NAMES]
    job = store.get_historical_features(entity_df=spine, features=features)
    (row,) = job.to_arrow().to_pylist()
    assert row["LABEL %s"] == "x;y"
    assert [row[name] for name in ODD_NAMES] == [2, 3, 4, 5]


def test_a_table_called_as_we_call_ours_is_not_mistaken(store: FeatureStore) -> None:
    spine = "select id, event_timestamp from spine"
    job = store.get_historical_features(entity_df=spine, features=["named_spine:v1"])
    assert job.to_arrow().column("v1").to_pylist() == [10]


def test_the_query_chooses_the_strategy_by_the_index(store: FeatureStore) -> None:
    indexed = store.get_historical_features(
        entity_df=MATCHES, features=store.get_feature_service("match"), full_feature_names=True
    )
    assert indexed.to_sql().count("left join lateral") == 2
    plain = store.get_historical_features(
        entity_df="select now() as event_timestamp", features=["climate:co2"]
    )
    assert "lateral" not in plain.to_sql()


def test_the_sql_of_a_retrieval_runs_as_it_is(store: FeatureStore, connection: Any) -> None:
    job = store.get_historical_features(
        entity_df=MATCHES, features=store.get_feature_service("match"), full_feature_names=True
    )
    rows = connection.execute(job.to_sql()).fetchall()
    assert sorted(row[0] for row in rows) == [0, 1, 2]


def test_an_on_demand_view_is_computed_from_the_joined_rows(store: FeatureStore) -> None:
    frame = pd.DataFrame(
        {
            "team": ["ajax"],
            "bonus": [5],
            "event_timestamp": pd.Timestamp("2024-05-03", tz="UTC"),
        }
    )
    found = store.get_historical_features(
        entity_df=frame, features=["rating:elo", "adjusted:elo_with_bonus"]
    ).to_df()
    assert found["elo_with_bonus"].tolist() == [1515]


def test_a_range_of_time_yields_every_row_in_it_as_it_was_then(store: FeatureStore) -> None:
    found = store.get_historical_features(
        features=["rating:elo"],
        start_date=dt.datetime(2024, 5, 1, tzinfo=dt.UTC),
        end_date=dt.datetime(2024, 5, 2),  # noqa: DTZ001  # naive is UTC
    ).to_arrow()
    assert found.select(["team", "elo"]).to_pylist() == [
        {"team": "ajax", "elo": 1500},
        {"team": "psv", "elo": 1401},
        {"team": "ajax", "elo": 1510},
    ]
    with pytest.raises(RunnerError, match="different join keys"):
        store.get_historical_features(
            features=["rating:elo", "climate:co2"], start_date=dt.datetime.now(dt.UTC) - DAY
        )


@pytest.mark.parametrize(
    ("spine", "message"),
    [
        ("select 1 as team", "no timestamp column event_timestamp"),
        ("select now() as event_timestamp", "no column team, a join key of feature view rating"),
        ("selec", "the spine's SQL: syntax error"),
        ("select 'a' as team, 1 as elo, now() as event_timestamp", "column elo of the spine"),
        (
            "select 1 as team, now() as event_timestamp",
            "join key team is int4 in the spine but text in feature view rating",
        ),
        (pd.DataFrame({"team": ["a"]}), "no column event_timestamp"),
        (pd.DataFrame({"event_timestamp": [pd.Timestamp(0)]}), "no column team, a join key"),
        (
            pd.DataFrame({"team": ["a"], "x": [[1]], "event_timestamp": [pd.Timestamp(0)]})
            .assign(x=lambda frame: frame["x"].astype(object))
            .pipe(lambda frame: pd.concat([frame, frame.assign(x="a")])),
            "mixed types",
        ),
    ],
)
def test_a_spine_that_does_not_fit_is_told_what_is_wrong(
    store: FeatureStore, spine: Any, message: str
) -> None:
    with pytest.raises(RunnerError, match=re.escape(message)):
        store.get_historical_features(entity_df=spine, features=["rating:elo"])


def test_another_timestamp_name_is_understood(store: FeatureStore) -> None:
    frame = pd.DataFrame({"team": ["ajax"], "at": pd.Timestamp("2024-05-03", tz="UTC")})
    for spine in (frame, "select 'ajax' as team, timestamptz '2024-05-03+00' as at"):
        job = store.get_historical_features(entity_df=spine, features=["rating:elo"])
        assert job.to_arrow().column("elo").to_pylist() == [1510]


def test_a_spine_of_another_kind_is_refused(store: FeatureStore) -> None:
    with pytest.raises(Exception, match="Pandas DataFrame"):
        store.get_historical_features(entity_df=pa.table({}), features=["rating:elo"])


def test_a_numeric_key_joins_without_the_index(store: FeatureStore) -> None:
    spine = "select 1.0 as id, timestamptz '2024-05-02+00' as event_timestamp"
    job = store.get_historical_features(entity_df=spine, features=["named_spine:v1"])
    assert job.to_arrow().column("v1").to_pylist() == [10]


def test_a_result_persists_and_comes_back_as_a_saved_dataset(
    store: FeatureStore, connection: Any
) -> None:
    def job() -> Any:
        return store.get_historical_features(
            entity_df=MATCHES, features=store.get_feature_service("match"), full_feature_names=True
        )

    assert job().metadata.keys == ["id", "home", "away"]
    assert job().metadata.max_event_timestamp == dt.datetime(2024, 5, 5, tzinfo=dt.UTC)
    storage = SavedDatasetPostgreSQLStorage("public.kept")
    dataset = store.create_saved_dataset(
        job(), "kept", storage, feature_service=store.get_feature_service("match")
    )
    assert sorted(dataset.to_df()["home__elo"].dropna().tolist()) == [1401, 1510]
    with pytest.raises(RunnerError, match="already exists"):
        job().persist(storage)
    job().persist(SavedDatasetPostgreSQLStorage('"kept"'), allow_overwrite=True)
    assert connection.execute("select count(*) from kept").fetchone() == (3,)


def test_a_frames_metadata_needs_no_server(store: FeatureStore) -> None:
    frame = pd.DataFrame({"team": ["a"], "event_timestamp": pd.Timestamp("2024-05-03")})
    metadata = store.get_historical_features(entity_df=frame, features=["rating:elo"]).metadata
    assert metadata.min_event_timestamp == dt.datetime(2024, 5, 3, tzinfo=dt.UTC)


def _pull(store: FeatureStore, which: str, **options: Any) -> pa.Table:
    defaults = {
        "config": store.config,
        "data_source": RATING.batch_source,
        "join_key_columns": ["team"],
        "feature_name_columns": ["elo"],
        "timestamp_field": "event_timestamp",
        "created_timestamp_column": "created_at",
        "start_date": dt.datetime(2024, 5, 1, tzinfo=dt.UTC),
        "end_date": dt.datetime(2024, 5, 2, tzinfo=dt.UTC),
    }
    pull = getattr(PointInTimePostgreSQLOfflineStore, f"pull_{which}_from_table_or_query")
    table: pa.Table = pull(**{**defaults, **options}).to_arrow()
    return table


def test_the_latest_row_is_chosen_by_the_joins_own_rule(store: FeatureStore) -> None:
    latest = _pull(store, "latest")
    assert latest.column_names == ["team", "elo", "event_timestamp", "created_at"]
    assert latest.select(["team", "elo"]).to_pylist() == [
        {"team": "ajax", "elo": 1520},
        {"team": "psv", "elo": 1401},
    ]


def test_both_ends_of_a_pull_are_included(store: FeatureStore) -> None:
    before = dt.datetime(2024, 5, 2, tzinfo=dt.UTC) - timedelta(microseconds=1)
    assert _pull(store, "latest", end_date=before).column("elo").to_pylist() == [1500, 1401]
    assert _pull(store, "all").num_rows == 6
    assert _pull(store, "all", end_date=before).num_rows == 4
    assert _pull(store, "all", start_date=None, end_date=None).num_rows == 6


def test_a_pull_without_feature_names_reads_every_column(store: FeatureStore) -> None:
    for which in ("latest", "all"):
        table = _pull(store, which, feature_name_columns=[])
        assert set(table.column_names) == {"team", "elo", "event_timestamp", "created_at"}


def test_a_pull_without_keys_reads_one_row_for_feasts_dummy_entity(store: FeatureStore) -> None:
    table = _pull(
        store,
        "latest",
        data_source=CLIMATE.batch_source,
        join_key_columns=[],
        feature_name_columns=["co2"],
        created_timestamp_column="",
    )
    assert table.select(["co2", "__dummy_id"]).to_pylist() == [{"co2": 426.9, "__dummy_id": ""}]


def test_feast_materializes_through_the_store(store: FeatureStore) -> None:
    store.materialize(
        dt.datetime(2024, 5, 1, tzinfo=dt.UTC),
        dt.datetime(2024, 5, 3, tzinfo=dt.UTC),
        feature_views=["rating"],
    )
    online = store.get_online_features(["rating:elo"], [{"team": "ajax"}]).to_dict()
    assert online["elo"] == [1520]


def test_a_large_table_without_its_index_is_named_with_the_remedy(
    connection: Any, module_database: PostgresAddress, tmp_path: Path, capsys: Any
) -> None:
    connection.execute(
        "create table large as select id, now() as event_timestamp, id as v1 "
        "from generate_series(1, 100000) id; analyze large; "
        "create view seen as select * from large"
    )
    views = [
        FeatureView(
            name=name,
            entities=[ID],
            schema=[Field(name="id", dtype=Int64), Field(name="v1", dtype=Int64)],
            source=source(name, name, created=""),
        )
        for name in ("large", "seen")
    ]
    store = feast_store(module_database, tmp_path, [ID, *views])
    store.get_historical_features(
        entity_df="select 1 as id, now() as event_timestamp",
        features=["large:v1", "seen:v1"],
        full_feature_names=True,
    )
    told = capsys.readouterr().err
    assert "large has no index on (id, event_timestamp): each retrieval sorts its 100,000" in told
    assert "indexes: [{columns: [id, event_timestamp], unique: true}]" in told
    assert "seen is a view" in told


def test_knowledge_time_can_be_switched_off_and_demanded_again(
    connection: Any, module_database: PostgresAddress, tmp_path: Path
) -> None:
    store = feast_store(module_database, tmp_path, [TEAM, RATING], knowledge_time=False)
    ask: dict[str, Any] = {
        "entity_df": "select 'ajax' as team, timestamptz '2024-05-03+00' as event_timestamp",
        "features": ["rating:elo"],
    }
    off = store.get_historical_features(**ask).to_arrow()
    assert off.column("elo").to_pylist() == [1520]
    on = store.get_historical_features(**ask, filter_by_created_timestamp=True).to_arrow()
    assert on.column("elo").to_pylist() == [1510]


def test_a_source_without_the_column_is_named(
    module_database: PostgresAddress, tmp_path: Path, connection: Any
) -> None:
    view = FeatureView(
        name="gone",
        entities=[TEAM],
        schema=[Field(name="team", dtype=String), Field(name="gone", dtype=Int64)],
        source=source("gone", "rating"),
    )
    store = feast_store(module_database, tmp_path, [TEAM, view])
    with pytest.raises(RunnerError, match="data source gone has no column gone; it has team"):
        store.get_historical_features(entity_df=MATCHES, features=["gone:gone"])


def test_where_stock_feast_is_right_the_values_are_the_same(
    connection: Any, module_database: PostgresAddress, tmp_path: Path
) -> None:
    connection.execute(
        "create table unique_facts as select id % 50 as id, "
        "timestamptz '2024-01-01+00' + id * interval '1 hour' as event_timestamp, "
        "timestamptz '2024-01-01+00' + id * interval '1 hour' + id % 5 * interval '3 hours' "
        "as created_at, id::bigint as v1 "
        "from generate_series(1, 3000) id"
    )
    view = FeatureView(
        name="facts",
        entities=[ID],
        ttl=timedelta(days=4),
        schema=[Field(name="id", dtype=Int64), Field(name="v1", dtype=Int64)],
        source=source("unique_facts", "unique_facts"),
    )
    spine = (
        "select row_number() over () as n, id % 60 as id, "
        "timestamptz '2024-01-01+00' + id * interval '97 minutes' as event_timestamp "
        "from generate_series(1, 2000) id"
    )
    found = {}
    for kind in (OURS, STOCK):
        store = feast_store(module_database, tmp_path, [ID, view], kind)
        job = store.get_historical_features(
            entity_df=spine, features=["facts:v1"], filter_by_created_timestamp=True
        )
        found[kind] = job.to_arrow().select(["n", "id", "v1"]).sort_by("n")
    assert found[OURS].num_rows == 2000
    assert found[OURS].column("v1").null_count > 0
    assert found[OURS].equals(found[STOCK])


def test_the_connection_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"HOST": "h", "PORT": "7", "DATABASE": "d", "USER": "u", "PASSWORD": "p"}
    for name, value in {**values, "SSLMODE": "require"}.items():
        monkeypatch.setenv(f"PG{name}", value)
    config = PointInTimePostgreSQLOfflineStoreConfig()
    assert (config.host, config.port, config.database, config.user) == ("h", 7, "d", "u")
    assert (config.password, config.sslmode) == ("p", "require")
    assert PointInTimePostgreSQLOfflineStoreConfig(host="other").host == "other"


def test_the_projects_environment_file_fills_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "dbt_project.yml").touch()
    lines = ["PGHOST=file", "PGPORT=8", "PGDATABASE=d", "PGUSER=u", "PGPASSWORD=p"]
    lines += ["REDIS_URL=redis://h", "MLFLOW_TRACKING_URI=sqlite:///m.db"]
    (tmp_path / "profiles" / "local.env").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    for name in ("PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "REDIS_URL"):
        monkeypatch.setenv(name, "gone")  # so that it is removed again afterwards
        monkeypatch.delenv(name)
    config = PointInTimePostgreSQLOfflineStoreConfig()
    assert (config.host, config.port) == ("file", 8)


def test_outside_a_project_the_missing_field_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="host"):
        PointInTimePostgreSQLOfflineStoreConfig()


def test_a_server_that_does_not_answer_is_an_error_with_a_remedy(
    store: FeatureStore, module_database: PostgresAddress, tmp_path: Path
) -> None:
    lost = feast_store(module_database, tmp_path, [TEAM, RATING], port=1)
    with pytest.raises(RunnerError, match="cannot reach PostgreSQL at") as error:
        lost.get_historical_features(entity_df=MATCHES, features=["rating:elo"])
    assert "runner up" in error.value.hint
