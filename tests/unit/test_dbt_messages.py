"""What dbt says in a page is told in a line; every message here is one that dbt 1.11 printed."""

import pytest

from runner.project.dbt_messages import TWO_WRITERS, database_error, essence

DATABASE = """\
Database Error in model stg_sales__orders (models/staging/stg_sales__orders.sql)
  column "custmer_id" does not exist
  LINE 21:         cast(custmer_id as bigint) as customer_id,
                        ^
  HINT:  Perhaps you meant to reference the column "source.customer_id".
  compiled code at target/run/shop2/models/staging/stg_sales__orders.sql"""
CONTRACT = """\
Compilation Error in model customer_orders (models/feature_mart/customer_orders.sql)
  This model has an enforced contract that failed.
  Please ensure the name, data_type, and number of columns in your contract match the columns in \
your model's definition.

  | column_name      | definition_type | contract_type | mismatch_reason    |
  | ---------------- | --------------- | ------------- | ------------------ |
  | customer_id      | LONGINTEGER     | TEXT          | data type mismatch |


  > in macro assert_columns_equivalent (macros/relations/column/columns_spec_ddl.sql)
  > called by model customer_orders (models/feature_mart/customer_orders.sql)"""
UNIT_TEST = """\
Runtime Error in unit_test orders_of_one_instant_are_one_row (models/feature_mart/x.yml)
  An error occurred during execution of unit test 'orders_of_one_instant_are_one_row'. There may \
be an error in the unit test definition: check the data types.
   Database Error
    syntax error at or near "selec"
    LINE 138: selec * from history
              ^"""
JINJA = """\
Encountered an error:
Compilation Error in model user_activity (models/user_activity.sql)
  unexpected '}'
    line 3
      select {{ 1 } }"""
UNKNOWN = """\
Encountered an error:
Compilation Error
  Model 'model.shop.user_activity' (models/user_activity.sql) depends on a node named 'nowhere' \
which was not found"""
YAML = """\
Encountered an error:
Parsing Error
  Error reading shop2: staging/x.yml - Runtime Error
    Syntax error near line 3
    ------------------------------
    1  | models:
    2  |   - name: x
    3  |    bad: 1

    Raw Error:
    ------------------------------
    did not find expected '-' indicator
      in "<unicode string>", line 3, column 4"""


@pytest.mark.parametrize(
    ("message", "file", "told"),
    [
        (
            DATABASE,
            "models/staging/stg_sales__orders.sql",
            (
                'column "custmer_id" does not exist; LINE 21: cast(custmer_id as bigint) as '
                "customer_id; HINT: Perhaps you meant to reference the column "
                '"source.customer_id"'
            ),
        ),
        (
            CONTRACT,
            "models/feature_mart/customer_orders.sql",
            (
                "This model has an enforced contract that failed; column_name, definition_type, "
                "contract_type, mismatch_reason; customer_id, LONGINTEGER, TEXT, data type mismatch"
            ),
        ),
        (
            UNIT_TEST,
            "models/feature_mart/x.yml",
            (
                "An error occurred during execution of unit test "
                "'orders_of_one_instant_are_one_row'. There may be an error in the unit test "
                "definition: check the data types; "
                'syntax error at or near "selec"; LINE 138: selec * from history'
            ),
        ),
        (
            JINJA,
            "",
            (
                "Compilation Error in model user_activity (models/user_activity.sql); unexpected "
                "'}'; line 3; select {{ 1 } }"
            ),
        ),
        (
            UNKNOWN,
            "",
            (
                "Model 'model.shop.user_activity' (models/user_activity.sql) depends on a node "
                "named 'nowhere' which was not found"
            ),
        ),
        (
            YAML,
            "",
            (
                "Error reading shop2: staging/x.yml - Runtime Error; Syntax error near line 3; did "
                "not find expected '-' indicator; in \"<unicode string>\", line 3, column 4"
            ),
        ),
        ("Got 2 results, configured to fail", "x.yml", "Got 2 results, configured to fail"),
        ("a line that ends in no_such_co...", "", "a line that ends in no_such_co..."),
        ("Runtime Error", "", "Runtime Error"),
        ("", "", "no message"),
    ],
)
def test_the_essence_is_the_message_without_what_stands_around_it(message, file, told):
    assert essence(message, file) == told


def test_a_long_message_is_cut_between_words():
    told = essence("Database Error in model x (x.sql)\n" + "  value of a row\n" * 100, "x.sql")
    assert len(told) <= 400
    assert told.startswith("value of a row; value of a row; ")
    assert told.endswith((" row; …", " of …", " a …", " value …"))


def test_of_a_unit_test_only_what_the_database_said_is_taken_for_its_error():
    told = 'syntax error at or near "selec"; LINE 138: selec * from history'
    assert database_error(UNIT_TEST) == told
    assert database_error("actual differs from expected:\n\n@@,user_id\n→,1→2") == ""


@pytest.mark.parametrize(
    "said",
    [
        "tuple concurrently updated",
        "tuple concurrently deleted",
        'relation "user_activity__dbt_tmp" already exists',
        'relation "feature_mart.user_activity__dbt_backup" does not exist',
        "deadlock detected",
        "could not open relation with OID 16401",
        'duplicate key value violates unique constraint "pg_namespace_nspname_index"',
        "Could not serialize access to table shop:feature_mart.x due to concurrent update",
    ],
)
def test_what_two_dbt_at_once_do_to_each_other_is_known(said: str) -> None:
    assert TWO_WRITERS.search(f"Database Error in model user_activity\n  {said}")
