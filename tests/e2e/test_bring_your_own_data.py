"""What docs/bring-your-own-data.md says, done word for word."""

import json
import re
import sys
from pathlib import Path

import psycopg
import pytest

from tests.e2e.conftest import REPOSITORY, Project, environment, served
from tests.e2e.pages import before_serving, run

PAGE = (REPOSITORY / "docs" / "bring-your-own-data.md").read_text()

# Customers differ in how often they order; some times and amounts repeat, some amounts are null.
ORDERS = """
    create table public.orders (customer_id integer, ordered_at timestamptz, amount numeric);
    insert into public.orders
    select
        c,
        timestamptz '2026-01-01 00:00+00'
        + interval '1 hour' * (n * (1 + c % 40) * 24 + c * n % 24),
        case when c % 7 > 0 then 5 + (c * n) % 50 end
    from generate_series(1, 200) as c, generate_series(1, 300) as n
    where n * (1 + c % 40) <= 300;
    insert into public.orders select * from public.orders where customer_id = 17;
"""


def files(page: str) -> dict[str, str]:
    """Return the page's files by the name in their first line."""
    return dict(re.findall(r"```\w+\n(?:#|--) (\S+)\n(.*?)```", page, re.DOTALL))


@pytest.fixture(scope="module")
def reorder(tmp_path_factory, new_database, redis_server):
    """The page's project up to its last command but the API."""
    database, home = new_database(), tmp_path_factory.mktemp("home")
    with psycopg.connect(**database.conninfo) as connection:
        connection.execute(ORDERS)
    env = environment(database, redis_server)
    # The page's `runner`, of this environment and found on PATH.
    env |= {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{env['PATH']}"}
    project = Project(home / "reorder", env)
    done = before_serving(PAGE)
    start = next(i for i, command in enumerate(done) if command.startswith("rm")) + 1
    run(REPOSITORY, done[:start], env)
    for name, text in files(PAGE).items():
        (project.root / name).write_text(text)
    run(project.root, done[start:], env)
    return project


def test_the_page_ends_in_a_champion_and_a_prediction(reorder):
    assert reorder.registered("reorder") == (["1"], ["champion"])
    (body,) = re.findall(r"-d '(.*)'", PAGE)
    with served(reorder, "recipes/reorder.yaml") as api:
        (prediction,) = api.post("/predict", json.loads(body))["predictions"]
    features = {name: f["value"] for name, f in prediction["features"].items()}
    assert 0 < prediction["probabilities"]["1"] < 1
    assert (
        features["customer_orders__orders_count_all"]
        == reorder.query("select count(*) from public.orders where customer_id = 17")[0][0]
    )


def test_the_pages_csv_file_becomes_a_table_before_the_sample_sql_is_deleted(reorder):
    (block,) = re.findall(r"If your table is a CSV file.*?```bash\n(.*?)```", PAGE, re.DOTALL)
    home = reorder.root.parent
    (home / "orders.csv").write_text(
        'Member,Ordered At,ordered_at,amount\nM1,24.12.2026 18:30,05.12.2025,"12,5"\n'
    )
    run(home, ["runner init ~/csv"], reorder.env)
    run(home / "csv", block.splitlines(), reorder.env)
    read = """
        select
            "Member",
            to_timestamp("Ordered At", 'DD.MM.YYYY HH24:MI')::date::text,
            ordered_at,
            amount
        from raw_data.orders
    """
    assert reorder.query(read) == [("M1", "2026-12-24", "05.12.2025", 125)]


def test_the_pages_project_leaves_dbt_nothing_to_warn_of(reorder):
    done = reorder.run("dbt", "parse", "--no-partial-parse", "--target", "local")
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout


def test_the_pages_label_looks_ahead_from_every_row(reorder):
    wrong = reorder.query("""
        select * from spine_data.spine_reorder as s
        where s.is_reorder_30d != exists (
            select from public.orders as o
            where o.customer_id = s.customer_id
              and o.ordered_at > s.event_timestamp
              and o.ordered_at <= s.event_timestamp + interval '30 days'
        )
    """)
    assert wrong == []


def test_the_pages_project_builds_its_outcome_model(reorder):
    done = reorder.run("dbt", "build", "--target", "local")
    assert done.returncode == 0, done.stdout
    assert reorder.query("select count(*) from spine_data.outcome_reorder") == [(0,)]
    assert "outcome_reorder" not in reorder.run("runner", "check").stdout  # it fits the spine
