{#
    The schema of Feast's SQL registry, beside the marts it describes. dbt creates the schemas of
    its own models only; Feast creates tables in a schema, but not the schema.
    Made only where it is not there: BigQuery wants a right of the whole project to ask for it again.
#}
{% macro create_feast_registry() -%}
    {% if execute and not adapter.check_schema_exists(target.database, 'feast_registry') %}
        {% do adapter.create_schema(
            api.Relation.create(database=target.database, schema='feast_registry')
        ) %}
    {% endif %}
{%- endmacro %}
