"""The best honest ROC AUC of the demo shop is known: trained models come near, leaks pass it."""

from datetime import timedelta
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import psycopg
import pyarrow.parquet as pq
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from examples.shop.process import purchase_probability
from examples.shop.simulation import simulate
from tests.e2e.conftest import DATA

KEYS = ["user_id", "category_id", "event_timestamp"]
TEST, EMBARGO = timedelta(days=28), timedelta(days=7)


@pytest.fixture(scope="module")
def run(shop):
    """The champion's MLflow run."""
    client = mlflow.MlflowClient(tracking_uri=shop.settings.mlflow_tracking_uri)
    version = client.get_model_version_by_alias("category_purchase_rf", "champion")
    return client.get_run(version.run_id)


@pytest.fixture(scope="module")
def frame(run):
    """The rows that the champion was trained and tested on."""
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    frame = pq.read_table(folder / "dataset/training_rows.parquet").to_pandas()
    frame["event_timestamp"] = pd.to_datetime(frame["event_timestamp"], utc=True)
    return frame


@pytest.fixture(scope="module")
def truth(shop):
    """The true probability of every recommendation, by entity keys and time."""
    users, days, seed = (
        int(DATA[DATA.index(name) + 1]) for name in ("--users", "--days", "--seed")
    )
    sent = simulate(users, days, seed).recommendations
    [(start,)] = shop.query("select loaded_from from raw_data.loads")
    return pd.DataFrame(
        {
            "user_id": sent.user + 1,
            "category_id": sent.category + 1,
            "event_timestamp": pd.Timestamp(start).tz_convert("UTC")
            + pd.to_timedelta(sent.recommended_at, unit="s"),
            "probability": sent.probability,
        }
    )


@pytest.fixture(scope="module")
def oracle(frame, truth):
    """The true probability of each row of the frame."""
    merged = frame[KEYS].merge(truth, on=KEYS, how="left", validate="one_to_one")
    return merged["probability"].to_numpy()


def rows_that_test(frame):
    """Return which rows test the model."""
    return (frame["event_timestamp"] > frame["event_timestamp"].max() - TEST).to_numpy()


def rows_that_train(frame):
    """Return which rows train it."""
    last = frame["event_timestamp"].max()
    return (frame["event_timestamp"] <= last - TEST - EMBARGO).to_numpy()


@pytest.fixture(scope="module")
def best(frame, oracle):
    """The best ROC AUC that an honest model can reach on the test rows."""
    rows = rows_that_test(frame)
    return roc_auc_score(frame["is_purchase_7d"][rows], oracle[rows])


def test_the_features_are_exactly_what_the_shop_knew_at_each_moment(frame, oracle):
    """Late rows, corrections, ties: one wrong value anywhere changes a probability."""
    probability = purchase_probability(
        category_views_7d=frame["user_category_affinity__views_7d"].astype(float),
        category_views_30d=frame["user_category_affinity__views_30d"].astype(float),
        category_carts_7d=frame["user_category_affinity__carts_7d"].astype(float),
        category_orders_30d=frame["user_category_affinity__orders_30d"].astype(float),
        user_orders_30d=frame["user_activity__orders_30d"].astype(float),
        age_years=frame["user_demographics__age_years"].astype(float),
        country=frame["user_demographics__country"].to_numpy(),
        device=frame["user_demographics__device"].to_numpy(),
        is_subscriber=frame["user_demographics__is_subscriber"].astype(float),
    )
    np.testing.assert_allclose(probability, oracle, rtol=1e-12)


def test_the_trained_model_is_near_the_best_and_never_above(run, best):
    assert 0.80 < best < 0.85
    assert best - 0.03 < run.data.metrics["test_roc_auc"] < best + 0.005


def test_a_leaking_join_is_far_above_the_best(shop, frame, best):
    leaking = features_as_of(shop, timedelta(days=7))
    assert auc_of_a_forest(frame, leaking) > best + 0.05


def test_the_same_forest_on_the_honest_join_is_not_above_the_best(shop, frame, best):
    honest = features_as_of(shop, timedelta(0))
    assert best - 0.03 < auc_of_a_forest(frame, honest) < best + 0.005


def features_as_of(shop, delay):
    """Return the numeric features as of `event_timestamp` plus `delay`, in the frame's order.

    A join in plain SQL that shares no code with the runner's.
    """
    at = f"spine.event_timestamp + interval '{delay.days} days'"
    query = f"""
        select
            spine.user_id, spine.category_id, spine.event_timestamp,
            to_jsonb(activity) - 'user_id' - 'event_timestamp' as activity,
            to_jsonb(affinity) - 'user_id' - 'category_id' - 'event_timestamp' as affinity
        from spine_data.spine_category_purchase as spine
        left join lateral (
            select * from feature_mart.user_activity as mart
            where mart.user_id = spine.user_id and mart.event_timestamp <= {at}
            order by mart.event_timestamp desc limit 1
        ) as activity on true
        left join lateral (
            select * from feature_mart.user_category_affinity as mart
            where mart.user_id = spine.user_id and mart.category_id = spine.category_id
                and mart.event_timestamp <= {at}
            order by mart.event_timestamp desc limit 1
        ) as affinity on true
        order by spine.event_timestamp, spine.user_id, spine.category_id
    """
    with psycopg.connect(**shop.settings.postgres.conninfo) as connection:
        rows = connection.execute(query).fetchall()
    parts = [pd.DataFrame([row[place] or {} for row in rows]) for place in (3, 4)]
    return pd.concat(parts, axis=1).astype(float).fillna(0.0).to_numpy()


def auc_of_a_forest(frame, features):
    """Return a random forest's ROC AUC on the test rows."""
    label = frame.sort_values(["event_timestamp", "user_id", "category_id"])
    train, test = rows_that_train(label), rows_that_test(label)
    forest = RandomForestClassifier(100, min_samples_leaf=25, max_samples=0.3, random_state=0)
    forest.fit(features[train], label["is_purchase_7d"][train])
    scores = forest.predict_proba(features[test])[:, 1]
    return roc_auc_score(label["is_purchase_7d"][test], scores)
