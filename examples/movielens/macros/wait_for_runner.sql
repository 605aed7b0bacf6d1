{#
    A bare `dbt build` waits while a runner builds the same tables: for PostgreSQL's advisory lock that
    every building command of `runner` holds, one per DBT_SCHEMA_PREFIX.
    dbt lists the schemas before it looks which tables there are. A hook on-run-start would run after
    that: dbt would go on with a list from before the wait, and create what exists since.
    BigQuery has no such locks, and its adapter lists schemas without a macro.
#}
{% macro postgres__list_schemas(database) %}
    {% do wait_for_runner() %}
    {{ return(dbt.postgres__list_schemas(database)) }}
{% endmacro %}


{# The lock ends with dbt's transaction. dbt under a runner, which holds the lock, does not wait. #}
{% macro wait_for_runner() %}
    {% if env_var('RUNNER_STARTED_DBT', '') %}{{ return('') }}{% endif %}
    {% set tables = dbt.escape_single_quotes('dbt build ' ~ env_var('DBT_SCHEMA_PREFIX', '')) %}
    {% set digest = "encode(sha256(convert_to('" ~ tables ~ "', 'UTF8')), 'hex')" %}
    {% set key = "('x' || left(" ~ digest ~ ", 16))::bit(64)::bigint" %}
    {% if run_query("select pg_try_advisory_xact_lock_shared(" ~ key ~ ")").rows[0][0] %}
        {{ return('') }}
    {% endif %}
    {# dbt asks once per schema, in parallel: the first says it. #}
    {% set first = "hashtextextended('" ~ invocation_id ~ "', 0)" %}
    {% if run_query("select pg_try_advisory_xact_lock(" ~ first ~ ")").rows[0][0] %}
        {% set holder = run_query(
            "select coalesce(max(nullif(application_name, '')), 'a runner') "
            "from pg_locks join pg_stat_activity using (pid) "
            "where locktype = 'advisory' and mode = 'ExclusiveLock' and granted and objsubid = 1 "
            "and database = datid and (classid::bigint << 32 | objid::bigint) = " ~ key
        ).rows[0][0] %}
        {% do log(
            holder ~ " builds dbt models in database " ~ target.dbname
            ~ ": waiting until it has ended", info=true
        ) %}
    {% endif %}
    {% do run_query("set local lock_timeout = 0; set local statement_timeout = 0") %}
    {% do run_query("select pg_advisory_xact_lock_shared(" ~ key ~ ")") %}
{% endmacro %}
