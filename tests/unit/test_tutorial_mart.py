"""The mart of docs/bring-your-own-data.md takes a further feature, and no other one changes."""

import re
from pathlib import Path

from runner.lineage.normalized_sql import normalized

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bring-your-own-data.md"
COUNTED = "count(*) over last_90d"
LAST = "max(orders_count_90d) as orders_count_90d"


def definition(sql, feature):
    needed = {"customer_id", "event_timestamp", feature}
    return normalized(sql, "postgres", {}).needed(needed)


def test_a_feature_added_to_the_tutorials_mart_changes_no_other():
    (sql,) = re.findall(r"customer_orders\.sql\n\{\{.*?\}\}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    sql = re.sub(r"\{\{.*?\}\}", "orders", sql)
    added = sql.replace(COUNTED, f"max(amount_usd) over so_far as top, {COUNTED}")
    added = added.replace(LAST, f"{LAST}, max(top) as order_value_max_all_usd")
    assert added.count("top") == 2
    for feature in ("orders_count_all", "order_value_mean_all_usd", "orders_count_90d"):
        assert definition(added, feature) == definition(sql, feature)
    assert definition(added, "order_value_max_all_usd") != definition(sql, "orders_count_all")
