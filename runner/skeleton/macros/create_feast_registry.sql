{#
    The schema of Feast's SQL registry, beside the marts it describes. dbt creates the schemas of
    its own models only; Feast creates tables in a schema, but not the schema.
#}
{% macro create_feast_registry() -%}
    {% if execute %}
        {% do adapter.create_schema(
            api.Relation.create(database=target.database, schema='feast_registry')
        ) %}
    {% endif %}
{%- endmacro %}
