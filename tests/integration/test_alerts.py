"""Each alert fires on what a really broken server says of itself; a healthy one fires none.

A server is asked and scraped while things break around it. `promtool test rules` is given what was
scraped, one scrape a minute, and says which alerts fire then.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import yaml

from contract.event_format import EventColumn, EventTable, PushedView, event_tables_key
from contract.view_state import DIGESTS, state_key
from tests.serving_bundles import FEATURES, PROJECT, OnlineStore, manifest, write_linear_bundle
from tests.serving_process import Serving, await_, predict, serving

pytestmark = pytest.mark.servers

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "monitoring"
RULES = [
    rule
    for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
ROWS = [{"user_id": user, "category_id": "toys"} for user in range(50)]
MINUTES = 25  # a window of 15 and what must hold for 5
VIEWS = sorted({view for view, *_ in FEATURES})
TABLES = [
    EventTable(
        *("clicks", "raw_data", "clicks", "click_id"),
        (EventColumn("click_id", "string"), EventColumn("user_id", "int64", required=True)),
    ),
    EventTable(
        *("activity", "raw_data", "activity", "push_id"),
        (
            EventColumn("push_id", "string"),
            EventColumn("user_id", "int64", required=True),
            EventColumn("event_timestamp", "timestamp", required=True),
            EventColumn("orders_7d", "int64"),
            EventColumn("is_active", "bool"),
        ),
        view=PushedView(
            "user_activity",
            {"user_id": "int64"},
            {"orders_7d": "int64", "is_active": "bool"},
            "event_timestamp",
        ),
    ),
]

Scrape = dict[str, float]
"""Samples by series; empty: nobody answered."""


class Watched:
    """A server of a model, its online store, and who asks and scrapes it."""

    def __init__(
        self, server: Serving, client: httpx.Client, folders: tuple[Path, Path], redis_url: str
    ) -> None:
        self.server = server
        self.bundle, self.shadow = folders
        self.store = OnlineStore(redis_url)
        self._client = client

    def fill(self, *, rows_old: float = 60.0, materialized: timedelta = timedelta(0)) -> None:
        """Put every row and watermark into the store."""
        self.empty()
        for row in ROWS:
            self.store.write_user(int(row["user_id"]), "toys", age=rows_old)
        as_of = (datetime.now(UTC) - materialized).isoformat()
        for view in VIEWS:
            key = f"runner:materialize:{PROJECT}:{view}"
            self.store.client.hset(key, "watermark", json.dumps({"as_of": as_of, "newest": as_of}))
        self.ask()  # what was missing before is none of the last rows any more

    def empty(self) -> None:
        """Leave nothing in the store but which tables take events."""
        self.store.client.flushall()
        for table in TABLES:
            self.store.client.hset(event_tables_key(PROJECT), table.name, table.dump())

    def ask(self) -> None:
        """Ask about each row, twice."""
        for _ in range(2):
            predict(self._client, *ROWS)

    def send(self, user: object) -> None:
        """Send an event and push a row, both of a user that nobody asks about."""
        now = datetime.now(UTC).isoformat()
        row = {"user_id": user, "event_timestamp": now, "orders_7d": 1, "is_active": True}
        event = {"click_id": now, "user_id": user}
        events = self._client.post("/events/clicks", json={"events": [event]})
        pushed = self._client.post("/push/user_activity", json={"rows": [row]})
        assert {events.status_code, pushed.status_code} <= {200, 503}

    def is_changed(self) -> bool:
        """Return whether the server has noticed features of another definition."""
        return bool(self._client.get("/ready").json()["features_changed"])

    def scrape(self) -> Scrape:
        """Return what the server says of itself."""
        lines = self._client.get("/metrics").text.splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if line.startswith("serving_"))
        return {series: float(value) for series, value in samples} | {'up{job="api"}': 1.0}

    def minutes(
        self, before_each: Callable[[], None] = lambda: None, user: object = 1_000_000
    ) -> list[Scrape]:
        """Return a scrape for each minute, asked in between.

        Parameters
        ----------
        user
            Whom events and pushed rows are about.
        """
        scrapes = []
        for _ in range(MINUTES):
            before_each()
            self.ask()
            self.send(user)
            scrapes.append(self.scrape())
        return scrapes


@pytest.fixture(name="recorded", scope="module")
def _recorded(
    tmp_path_factory: pytest.TempPathFactory, redis_server: Any
) -> dict[str, list[Scrape]]:
    """What was scraped, by what was wrong meanwhile."""
    folders = (tmp_path_factory.mktemp("bundle"), tmp_path_factory.mktemp("shadow"))
    features = [feature | {"definition": "mine"} for feature in manifest()["features"]]
    for folder in folders:
        write_linear_bundle(folder, features=features)
    env = {"SERVING_RELOAD_SECONDS": "0.05", "SERVING_SHADOW": str(folders[1])}
    with serving(folders[0], redis_server.url, **env, SERVING_SHADOW_SHARE="1") as server:
        for message in ("serving log connected", "shadow model loaded"):
            server.wait_for(message)
        with server.client() as client:
            watched = Watched(server, client, folders, redis_server.url)
            found = dict(record(watched))
        server.process.kill()
    down: Scrape = {'up{job="api"}': 0.0}
    found["the server died"] = [*found["nothing"][:5], *[down] * (MINUTES - 5)]
    found["the instance was scaled to zero"] = [*found["nothing"][:5], *[{}] * (MINUTES - 5)]
    return found


def record(watched: Watched) -> Iterator[tuple[str, list[Scrape]]]:
    """Yield what was wrong and what was scraped meanwhile."""
    watched.fill()
    yield "nothing", watched.minutes()
    store = watched.store.client
    # Redis answers nobody for a while, each time that somebody is about to ask.
    yield "Redis is slow", watched.minutes(lambda: store.execute_command("CLIENT PAUSE 150 ALL"))
    watched.fill(materialized=timedelta(hours=7))
    yield "nobody materializes", watched.minutes()
    watched.fill(rows_old=0.95 * 86_400)
    yield "the source stands still", watched.minutes()
    watched.empty()
    yield "the online store is empty", watched.minutes()
    watched.fill()
    yield "clients send what does not fit", watched.minutes(user="nobody")
    store.config_set("maxmemory", 1)
    yield "Redis is full", watched.minutes()
    store.config_set("maxmemory", 0)
    digests = json.dumps({FEATURES[0][1]: ["another"]})
    store.hset(state_key(PROJECT, FEATURES[0][0]), DIGESTS, digests)
    await_(watched.is_changed)
    yield "a feature has another definition", watched.minutes()
    watched.fill()
    await_(lambda: not watched.is_changed())
    with another_password(store):
        yield "Redis lets nobody in", watched.minutes()
        start = len(watched.server.lines)
    for client in ("online store", "serving log", "event log"):
        watched.server.wait_for(f"{client} connected", start)
    watched.fill()
    start = len(watched.server.lines)
    keys = [*manifest()["entity_keys"], {"name": "shop_id", "dtype": "int64", "description": ""}]
    write_linear_bundle(watched.shadow, entity_keys=keys)  # which no request has
    watched.server.wait_for("shadow model loaded", start)
    yield "the shadow cannot answer", watched.minutes()
    watched.server.wait_for("model loaded")
    (watched.bundle / "serving.json").write_text("{}")  # what a new champion would have
    yield "a champion is broken", refused(watched)


@contextmanager
def another_password(store: redis.Redis) -> Iterator[None]:
    """Change Redis's password and close every connection but one of ours."""
    store.config_set("requirepass", "another")
    store.execute_command("CLIENT KILL TYPE normal SKIPME yes")
    yield
    store.config_set("requirepass", "")


def refused(watched: Watched) -> list[Scrape]:
    """Return the scrapes until the bundle was refused, and as many as make the minutes whole."""
    before = watched.scrape()
    while True:
        now = watched.scrape()
        if now["serving_reload_failures_total"] > before["serving_reload_failures_total"]:
            return [before] * 5 + [now] * (MINUTES - 5)


EXPECTED = {
    "nothing": set(),
    "the instance was scaled to zero": set(),
    "the server died": {"ApiGone"},
    "Redis is slow": {"RedisSlow", "ApiSlow"},
    "Redis lets nobody in": {
        *("RedisFails", "ApiErrors", "EventsNotRecorded", "PushedRowsNotRecorded")
    },
    "Redis is full": {"LogRowsDropped", "EventsNotRecorded", "PushedRowsNotRecorded"},
    "clients send what does not fit": {"EventsRejected", "PushedRowsRejected"},
    "a feature has another definition": {"FeaturesChanged"},
    "the shadow cannot answer": {"ShadowFails"},
    "nobody materializes": {"FeaturesNotMaterialized"},
    "the source stands still": {"FeaturesOld"},
    "the online store is empty": {"FeaturesMissing", "OnlineStoreEmpty"},
    "a champion is broken": {"ChampionRefused"},
}


def promtool(folder: Path, tests: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    """Run the rules on series."""
    program = shutil.which("promtool")
    if program is None:
        pytest.fail("promtool is missing: apt-get install prometheus")
    shutil.copy(MONITORING / "alerts.yml", folder)
    content = {"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": tests}
    (folder / "test.yml").write_text(json.dumps(content))  # which is YAML
    return subprocess.run(
        [program, "test", "rules", "test.yml"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


TIMES = {"RedisSlow", "ApiSlow"}


def as_test(
    name: str, series: dict[str, str], firing: set[str], *, timed: bool = True
) -> dict[str, Any]:
    """Return promtool's test that exactly these alerts fire in the end.

    Parameters
    ----------
    timed
        Whether to look at alerts about time, which a busy machine fires rightly.
    """
    ignored = "" if timed else "|".join(sorted(TIMES))
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": key, "values": value} for key, value in series.items()],
        "promql_expr_test": [
            {
                "expr": "max by (alertname) "
                f'(ALERTS{{alertstate="firing",alertname!~"{ignored}"}})',
                "eval_time": f"{MINUTES - 1}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(firing)
                ],
            }
        ],
    }


def series_of(scrapes: list[Scrape]) -> dict[str, str]:
    """Return each series with its values, `_` where there was none."""
    names = dict.fromkeys(name for scrape in scrapes for name in scrape)
    return {name: " ".join(f"{s[name]:f}" if name in s else "_" for s in scrapes) for name in names}


def test_each_alert_fires_on_its_fault_and_none_on_a_healthy_server(
    recorded: dict[str, list[Scrape]], tmp_path: Path
) -> None:
    assert recorded.keys() == EXPECTED.keys()
    tests = [
        as_test(name, series_of(recorded[name]), firing, timed=bool(firing & TIMES))
        for name, firing in EXPECTED.items()
    ]
    done = promtool(tmp_path, tests)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_about_time_do_not_fire_below_their_limits(tmp_path: Path) -> None:
    # Made up: what is recorded depends on how busy the machine is.
    request = 'serving_request_seconds_bucket{route="/predict",status="200",le='
    quick = {
        f'{request}"0.05"}}': "0+99x30",
        f'{request}"0.1"}}': "0+100x30",
        f'{request}"+Inf"}}': "0+100x30",
        'serving_redis_seconds_bucket{le="0.0025"}': "0+90x30",
        'serving_redis_seconds_bucket{le="0.005"}': "0+98x30",
        'serving_redis_seconds_bucket{le="+Inf"}': "0+100x30",
    }
    done = promtool(tmp_path, [as_test("quick enough", quick, set())])
    assert done.returncode == 0, done.stdout + done.stderr


REQUESTS = (
    'run_googleapis_com:request_count{monitored_resource="cloud_run_revision",service_name="api-rf"'
)
JOBS = (
    "run_googleapis_com:job_completed_execution_count"
    '{monitored_resource="cloud_run_job",job_name="train-rf"'
)


def test_alerts_on_cloud_runs_own_metrics_fire_too(tmp_path: Path) -> None:
    # Made up: there is no Cloud Run here. The names are those of Google's documentation.
    well = {f'{REQUESTS},response_code_class="2xx"}}': "0+60x30"}
    failing = well | {f'{REQUESTS},response_code_class="5xx"}}': "0+3x30"}
    failed = {f'{JOBS},result="failed"}}': "0x15 1x15"}
    succeeded = {f'{JOBS},result="succeeded"}}': "0x15 1x15"}
    tests = [
        as_test("well", well | succeeded, set()),
        as_test("no instance starts", failing, {"ServiceErrors"}),
        as_test("a job fails", failed, {"JobFailed"}),
    ]
    done = promtool(tmp_path, tests)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_shown_to_fire() -> None:
    shown = set().union(*EXPECTED.values()) | {"ServiceErrors", "JobFailed"}
    assert {rule["alert"] for rule in RULES} == shown


def test_alerts_and_dashboard_ask_for_metrics_and_labels_that_a_server_has(
    recorded: dict[str, list[Scrape]],
) -> None:
    panels = yaml.safe_load((MONITORING / "dashboard.yml").read_text())["panels"]
    queries = [rule["expr"] for rule in RULES]
    queries += [query for panel in panels for query in panel["queries"].values()]
    known: dict[str, set[str]] = {}
    for scrapes in recorded.values():
        for series in scrapes[-1]:
            name, _, labels = series.partition("{")
            known.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    known["serving_row_errors_total"] = {"code"}  # none was asked for here
    for query in queries:
        for name, labels in re.findall(r"\b(serving_\w+)(?:\{([^}]*)\})?", query):
            assert name in known, query
            assert set(re.findall(r"(\w+)=~?\"", labels)) <= known[name]


def test_grafana_shows_the_panels_that_are_described() -> None:
    described = yaml.safe_load((MONITORING / "dashboard.yml").read_text())["panels"]
    shown = json.loads((MONITORING / "grafana.json").read_text())["panels"]
    assert [panel["title"] for panel in shown] == [panel["title"] for panel in described]
    for panel, wanted in zip(shown, described, strict=True):
        found = {target["legendFormat"]: target["expr"] for target in panel["targets"]}
        assert found == wanted["queries"]
