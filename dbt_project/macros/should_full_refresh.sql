{#
    dbt asks this macro whether an incremental model is rebuilt. Beside --full-refresh, ours does
    so when its SQL, or that of a dbt model upstream, is not the SQL its table was built from:
    else old rows would keep the old meaning of a feature. The table's comment (BigQuery: its
    description) remembers it.
#}
{% macro should_full_refresh() %}
    {% set asked = config.get('full_refresh') %}
    {% if asked is none %}
        {% set asked = flags.FULL_REFRESH %}
    {% endif %}
    {% set may_differ = execute and model.config.materialized == 'incremental' %}
    {{ return(asked or (may_differ and remembered_sql() != sql_digest())) }}
{% endmacro %}

{# To be called after a build. #}
{% macro remember_sql() -%}
    {{ adapter.dispatch('remember_sql')() }}
{%- endmacro %}

{% macro postgres__remember_sql() -%}
    comment on table {{ this }} is '{{ sql_digest() }}'
{%- endmacro %}

{# Through the API: it costs no query. #}
{% macro bigquery__remember_sql() -%}
    {% do adapter.update_table_description(
        this.database, this.schema, this.identifier, sql_digest()
    ) %}
{%- endmacro %}

{# The digest the table was built from; none where there is no table. #}
{% macro remembered_sql() %}
    {{ return(adapter.dispatch('remembered_sql')()) }}
{% endmacro %}

{% macro postgres__remembered_sql() %}
    {% set found = run_query("select obj_description(to_regclass('" ~ this ~ "'), 'pg_class')") %}
    {{ return(found.columns[0].values()[0] if found.rows else none) }}
{% endmacro %}

{% macro bigquery__remembered_sql() %}
    {% set table = adapter.get_bq_table(this) %}
    {{ return(table.description if table else none) }}
{% endmacro %}

{% macro sql_digest() -%}
    {{ local_md5(upstream_sql(model.unique_id, [])) }}
{%- endmacro %}

{% macro upstream_sql(unique_id, seen) -%}
    {%- if unique_id in graph.nodes and unique_id not in seen -%}
        {%- do seen.append(unique_id) -%}
        {%- set node = graph.nodes[unique_id] -%}
        {{ node.raw_code }}
        {%- for parent in node.depends_on.nodes -%}
            {{ upstream_sql(parent, seen) }}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}
