"""One mart in two roles, and inputs that clients send: the same in training, batch and HTTP."""

import csv
import json

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from contract.scoring import load_model
from tests.e2e.conftest import Project, environment, served
from tests.payments_project import accounts, known_at, payments, write_payments_project

INPUTS = ("channel", "is_gift", "items", "amount_usd")
KEYS = ("sender", "receiver")
SENT = pa.schema(
    [
        *((key, pa.int64()) for key in KEYS),
        ("channel", pa.string()),
        ("is_gift", pa.bool_()),
        ("items", pa.int64()),
        ("amount_usd", pa.float64()),
    ]
)


@pytest.fixture(scope="module")
def bank(tmp_path_factory, new_database, redis_server):
    """The payments project, trained, promoted and materialized."""
    root = write_payments_project(tmp_path_factory.mktemp("bank"))
    project = Project(root, environment(new_database(), redis_server))
    project.load("accounts", accounts())
    project.load("payments", payments())
    project.runner("check", "recipes/dispute.yaml", "recipes/quote.yaml")
    project.runner("train", "recipes/dispute.yaml")
    project.runner("materialize", "recipes/dispute.yaml")
    return project


@pytest.fixture(scope="module")
def api(bank):
    with served(bank, "recipes/dispute.yaml") as api:
        yield api


def score(bundle, table):
    columns = {name: table[name] for name in bundle.row_dtypes}
    return load_model(bundle).score(columns)


def test_each_role_has_the_values_of_its_own_account(bank):
    _, table = bank.trained("dispute")
    assert table.num_rows == len(payments())
    for row in table.slice(0, 60).to_pylist():
        sender, receiver = (known_at(row["event_timestamp"], row[key]) for key in KEYS)
        assert row["sender__payments_7d"] == sender.get("payments_7d")
        assert row["sender__mean_usd"] == sender.get("mean_usd")
        assert row["receiver__payments_7d"] == receiver.get("payments_7d")
        assert row["receiver__country"] == receiver.get("country")


def test_the_bundle_says_what_clients_send(bank):
    bundle, _ = bank.trained("dispute")
    assert bundle.format_version == 3
    assert [key.name for key in bundle.entity_keys] == list(KEYS)
    dtypes = {given.name: given.dtype for given in bundle.request}
    assert dtypes == {
        "channel": "string",
        "is_gift": "bool",
        "items": "int64",
        "amount_usd": "float64",
    }
    assert {given.description for given in bundle.request} >= {"How much."}
    assert all(given.example is not None for given in bundle.request)
    sender = next(f for f in bundle.features if f.name == "sender__mean_usd")
    assert (sender.view, sender.join_keys, sender.key_columns) == (
        "account_activity",
        ("account_id",),
        ("sender",),
    )


def test_a_batch_of_the_spine_is_scored_as_the_training_rows(bank):
    bundle, table = bank.trained("dispute")
    output = bank.root / "spine.parquet"
    bank.runner("predict", "dispute", "spine_payment", "--output", str(output))
    written = pq.read_table(output)
    expected = score(bundle, table)
    order = [(name, "ascending") for name in ("event_timestamp", *KEYS)]
    assert written.sort_by(order)["probability_1"].to_pylist() == (
        table.append_column("p", [expected.probabilities[:, 1]]).sort_by(order)["p"].to_pylist()
    )


def test_http_answers_what_a_batch_of_the_same_rows_does(bank, api):
    rows = payments().slice(0, 100).to_pylist()
    sent = [{name: row[name] for name in (*KEYS, *INPUTS)} for row in rows]
    for row in sent:
        row["amount_usd"] = float(row["amount_usd"])
    path = bank.root / "now.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, sent[0])
        writer.writeheader()
        writer.writerows(sent)
    output = bank.root / "now.parquet"
    bank.runner("predict", "dispute", str(path), "--output", str(output))
    answers = api.post("/predict", {"entity_rows": sent, "include_features": True})["predictions"]
    written = pq.read_table(output)
    assert [answer["prediction"] for answer in answers] == written["prediction"].to_pylist()
    assert [answer["probabilities"]["1"] for answer in answers] == pytest.approx(
        written["probability_1"].to_pylist(), abs=1e-7
    )
    shown = answers[0]["features"]
    assert shown["amount_usd"]["status"] == "request"
    newest = known_at(
        accounts()["event_timestamp"][-1].as_py().replace(year=2030), rows[0]["sender"]
    )
    assert shown["sender__payments_7d"]["value"] == newest.get("payments_7d")


def test_an_account_that_is_not_known_is_named_by_its_role_in_batch_and_http(bank, api):
    # Account 0 is in no mart, and 1 and 2 are.
    pairs = [(1, 2), (0, 2), (1, 0), (0, 0)]
    rows = [{"sender": s, "receiver": r, **dict.fromkeys(INPUTS)} for s, r in pairs]
    missing = [[f"account_activity[{key}]" for key in KEYS if row[key] == 0] for row in rows]
    path, output = bank.root / "unknown.parquet", bank.root / "unknown_predicted.csv"
    pq.write_table(pa.Table.from_pylist(rows, SENT), path)
    done = bank.run("runner", "predict", "dispute", str(path), "--output", str(output))
    told = " ".join(done.stderr.split())
    assert "2 of 4 rows: nothing in account_activity[sender]" in told
    written = pyarrow.csv.read_csv(output)["missing_views"].to_pylist()
    assert written == [", ".join(names) or "" for names in missing]
    answers = api.post("/predict", {"entity_rows": rows})["predictions"]
    assert [answer["missing_views"] for answer in answers] == missing


def test_a_feature_in_a_role_is_overridden_by_its_full_name(api):
    row = {"sender": 1, "receiver": 2, **dict.fromkeys(INPUTS)}
    body = {"entity_rows": [row], "feature_overrides": [{"sender__payments_7d": 7}]}
    (answer,) = api.post("/predict", body | {"include_features": True})["predictions"]
    assert answer["features"]["sender__payments_7d"]["status"] == "overridden"
    assert answer["features"]["receiver__payments_7d"]["status"] != "overridden"


def test_a_file_without_an_input_or_with_one_of_another_type_is_refused(bank):
    path = bank.root / "wrong.csv"
    path.write_text("sender,receiver,channel,is_gift,items\n1,2,app,true,1\n")
    told = bank.refused("predict", "dispute", str(path), "--output", "x.csv")
    assert "no column 'amount_usd'" in told
    path.write_text("sender,receiver,channel,is_gift,items,amount_usd\n1,2,app,true,1,much\n")
    told = bank.refused("predict", "dispute", str(path), "--output", "x.csv")
    assert "amount_usd in row 1: expected double, got 'much'" in told
    assert "request inputs: channel string, is_gift bool, items int64, amount_usd float64" in told


def test_audit_and_reproduce_find_no_difference(bank):
    audited = json.loads(bank.runner("audit", "recipes/dispute.yaml", "--json"))
    assert [each["feature"] for each in audited] == [
        f"account_activity:{name}" for name in ("payments_7d", "mean_usd", "country")
    ]
    assert bank.run("runner", "reproduce", "dispute@champion").returncode == 0


def test_lineage_and_plan_know_roles_and_inputs(bank):
    told = bank.runner("lineage", "spine_payment.channel")
    assert "recipes/dispute.yaml" in told
    assert "dispute version 1 (champion)" in told
    assert "account_activity" in bank.runner("plan", "recipes/dispute.yaml")


def test_a_model_of_request_inputs_alone_is_trained_predicted_and_served(bank):
    bank.runner("train", "recipes/quote.yaml")
    bundle, table = bank.trained("quote")
    assert bundle.entity_keys == ()
    expected = score(bundle, table).labels.tolist()
    output = bank.root / "quotes.csv"
    bank.runner("predict", "quote", "spine_quote", "--output", str(output))
    assert sorted(pyarrow.csv.read_csv(output)["prediction"].to_pylist()) == pytest.approx(
        sorted(expected)
    )
    rows = table.slice(0, 20).select(["channel", "items"]).to_pylist()
    with served(bank, "recipes/quote.yaml") as api:
        answers = api.post("/predict", {"entity_rows": rows})["predictions"]
    assert [answer["prediction"] for answer in answers] == pytest.approx(expected[:20])
    assert bank.run("runner", "audit", "recipes/quote.yaml").returncode == 0
    assert bank.run("runner", "reproduce", "quote@champion").returncode == 0


def test_a_smoke_test_samples_an_entity_for_each_role_and_sends_the_examples(bank, api):
    shown = bank.runner("smoke-test", "dispute", "--url", api.address)
    assert "dispute version 1 is ready and answers as `runner predict` does" in shown
