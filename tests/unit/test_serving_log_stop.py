"""The serving log ends while rows wait."""

import asyncio
from types import SimpleNamespace

from contract.redis_address import RedisAddress
from contract.serving_settings import LogSettings
from serving.features.online_row import OnlineRow
from serving.metrics import Metrics
from serving.serving_log import ServingLog

ROWS = 500
LABEL = SimpleNamespace(name="bought", classes=None, decision_threshold=None)
BUNDLE = SimpleNamespace(
    digest="d", run_id="r", feast_project="p", label=LABEL, entity_keys=[], features=[], row=[]
)
LOADED = SimpleNamespace(
    bundle=SimpleNamespace(**vars(BUNDLE), request=[]),
    name="m",
    version=SimpleNamespace(version="1"),
    online=SimpleNamespace(views=()),
)


def _dropped(models, rows):
    """Return how many rows are counted as dropped where each model answers and no Redis does."""
    faults = []

    async def log_and_stop(metrics):
        asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
        address = RedisAddress.from_url("redis://127.0.0.1:1/0")
        log = ServingLog(address, metrics, LogSettings())
        log.start()
        used = OnlineRow([], [], 0.0, [], is_complete=True)
        asked = SimpleNamespace(
            request=SimpleNamespace(entity_rows=[{}] * rows),
            caller=SimpleNamespace(request_id=b"1"),
            scored=[(position, used, [], 1.0, None) for position in range(rows)],
        )
        for model in models:
            log.note(model, 0.0, [asked])
        await log.stop()

    metrics = Metrics()
    asyncio.run(log_and_stop(metrics))
    assert faults == []
    return metrics.logged_rows["dropped"]


def test_rows_that_wait_when_the_server_stops_are_written_or_counted_as_dropped():
    assert _dropped([LOADED], ROWS) == ROWS


def test_rows_of_models_that_were_replaced_do_not_wait_for_ever():
    assert _dropped([SimpleNamespace(**vars(LOADED)) for _ in range(4)], 1) == 4
