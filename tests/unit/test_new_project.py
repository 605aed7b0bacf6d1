"""What `runner init` writes, and where it does not."""

import json
import re
import socket
from pathlib import Path
from typing import get_args

import pytest
import yaml
from jinja2 import Template

from runner.collecting.served_rows import PREDICTIONS
from runner.commands.project import new_project
from runner.commands.project.new_project import SKELETON, NewProject, write_project
from runner.commands.project.new_project_report import show_project
from runner.errors import RunnerError
from runner.recipes.recipe import load_recipe
from runner.recipes.schema import recipe_schema
from runner.settings import TARGETS, load_settings
from runner.warehouse import figures_table

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path):
    write_project(tmp_path / "My-Shop 2")
    return tmp_path / "My-Shop 2"


def contents(folder):
    """Return each file's bytes by its path."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_named_after_its_folder(project):
    assert yaml.safe_load((project / "dbt_project.yml").read_text())["name"] == "my_shop_2"
    assert load_settings("local", project).postgres.database == "my_shop_2"
    assert load_recipe(project / "recipes" / "reorder.yaml").experiment_name == "my_shop_2"
    for path, content in contents(project).items():
        assert b"PROJECT_NAME" not in content, path


def test_where_a_usual_port_is_taken_there_is_a_free_one():
    with socket.create_server(("127.0.0.1", 0)) as another:
        taken = another.getsockname()[1]
        assert new_project._free_port(taken) not in {taken, 0}


def test_its_ports_are_in_all_files_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(new_project, "_free_port", lambda usual: usual + 40_000)
    project = write_project(tmp_path / "second")
    assert (project.postgres_port, project.redis_port, project.moved) == (45_432, 46_379, True)
    env = (tmp_path / "second/profiles/local.env").read_text()
    assert "PGPORT=45432\n" in env
    assert "REDIS_URL=redis://127.0.0.1:46379/0\n" in env
    assert "'PGPORT', '45432'" in (tmp_path / "second/profiles/profiles.yml").read_text()
    compose = (tmp_path / "second/docker-compose.local.yml").read_text()
    assert "${PGPORT:-45432}:5432" in compose
    assert "${REDIS_PORT:-46379}:6379" in compose
    assert "redis://redis:6379/0" in compose


def test_the_next_commands_are_those_of_its_readme(tmp_path, capsys):
    show_project(NewProject("shop", 5432, 6379), tmp_path / "my shop")
    shown = capsys.readouterr().err
    assert f"  cd '{tmp_path}/my shop'\n" in shown
    assert "ports" not in shown
    readme = (SKELETON / "README.md").read_text()
    commands = [line.strip() for line in shown.splitlines() if line.startswith("  ")][1:]
    assert len(commands) == 5
    for command in commands:
        assert f"$ {command}" in readme


def test_it_may_be_the_empty_folder_one_stands_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_project(Path())
    assert Path("dbt_project.yml").is_file()
    assert (tmp_path / "dbt_project.yml").is_file()


def test_dbt_and_feast_find_their_files_by_themselves(project):
    profile = yaml.safe_load((project / "profiles.yml").read_text())["my_shop_2"]
    assert set(profile["outputs"]) == set(TARGETS)
    store = yaml.safe_load((project / "feature_repo" / "feature_store.yaml").read_text())
    assert store["project"] == "my_shop_2"


def test_dbt_labels_its_jobs_on_bigquery_as_the_shop_does(project):
    files = (project / "dbt_project.yml", REPOSITORY / "dbt_project.yml")
    comments = [yaml.safe_load(file.read_text())["query-comment"] for file in files]
    assert comments[0] == comments[1]


def test_it_reads_the_serving_log_and_figures_as_the_shop_does():
    theirs, ours = SKELETON, REPOSITORY / "dbt_project"
    staging = [path.name for path in (SKELETON / "models/staging").glob("*_serving*")]
    staging += [path.name for path in (SKELETON / "models/staging").glob("*_monitoring*")]
    assert len(staging) == 6
    for file in ("macros/serving_log.sql", *(f"models/staging/{name}" for name in staging)):
        assert (theirs / file).read_text() == (ours / file).read_text(), file


@pytest.mark.parametrize(
    ("target", "types"),
    [
        ("postgres", {"timestamp": "timestamptz", "json": "jsonb"}),
        ("bigquery", {"timestamp": "timestamp", "json": "json"}),
    ],
)
@pytest.mark.parametrize(
    ("source", "written"),
    [
        (
            "serving",
            {column.name: column.type for column in PREDICTIONS.columns}
            | {"collected_at": "timestamp"},
        ),
        ("monitoring", figures_table.COLUMNS | {"written_at": "timestamp"}),
    ],
)
def test_dbt_describes_the_tables_that_commands_create(target, types, source, written):
    text = (SKELETON / f"models/staging/__{source}.yml").read_text()
    [table] = yaml.safe_load(text)["sources"][0]["tables"]
    described = {column["name"]: column["data_type"] for column in table["columns"]}
    rendered = {
        name: Template(kind).render(target={"type": target}) for name, kind in described.items()
    }
    names = {"text": "string", **types}
    assert rendered == {name: names.get(kind, kind) for name, kind in written.items()}


def test_dbt_knows_every_kind_of_figure():
    text = (SKELETON / "models/staging/stg_monitoring__figures.yml").read_text()
    [model] = yaml.safe_load(text)["models"]
    [kind] = [column for column in model["columns"] if column["name"] == "kind"]
    [accepted] = [test for test in kind["data_tests"] if "accepted_values" in test]
    values = accepted["accepted_values"]["arguments"]["values"]
    assert set(values) == set(get_args(figures_table.FigureKind))


def test_editors_get_the_schema_of_recipes(project):
    schema = json.loads((project / "schemas" / "recipe.schema.json").read_text())
    assert schema == recipe_schema()


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["notes.txt"], "holds notes.txt; nothing"),
        ([".git"], "holds .git; nothing"),
        (list("gfedcba"), "holds a, b, c, d, e and 2 more; nothing"),
    ],
)
def test_a_folder_that_holds_anything_is_refused_and_stays_as_it_is(tmp_path, names, told):
    for name in names:
        (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(RunnerError, match=re.escape(f"{tmp_path} {told} was written")):
        write_project(tmp_path)
    assert contents(tmp_path) == before


def test_a_second_time_is_refused_and_changes_nothing(project):
    (project / "README.md").write_text("mine")
    before = contents(project)
    with pytest.raises(RunnerError, match=r"README\.md, dbt_project\.yml.* and \d+ more"):
        write_project(project)
    assert contents(project) == before


def test_a_file_is_refused(tmp_path):
    (tmp_path / "shop").write_text("mine")
    with pytest.raises(RunnerError, match="shop is no folder; nothing was written"):
        write_project(tmp_path / "shop")


def test_a_link_to_nowhere_is_refused(tmp_path):
    (tmp_path / "shop").symlink_to(tmp_path / "gone")
    with pytest.raises(RunnerError, match="shop is no folder; nothing was written"):
        write_project(tmp_path / "shop")


@pytest.mark.parametrize("existing", [True, False])
def test_what_fails_half_way_leaves_nothing(tmp_path, monkeypatch, existing):
    folder = tmp_path / "shop"
    if existing:
        folder.mkdir()
    before = sorted(tmp_path.rglob("*"))

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    with pytest.raises(RunnerError, match="cannot be written: Operation not permitted; nothing"):
        write_project(folder)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_letter_that_dbt_takes_in_no_name_becomes_an_underscore(tmp_path):
    assert write_project(tmp_path / "läden").name == "l_den"


@pytest.mark.parametrize("name", ["2shop", "_", "x" * 64, "dbt", "dbt-postgres"])
def test_a_name_that_dbt_or_postgresql_does_not_take_is_refused(tmp_path, name):
    with pytest.raises(RunnerError, match=r"is no name for a project|dbt has a package of its own"):
        write_project(tmp_path / name)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        *((f"profiles/{name}",) * 2 for name in ("profiles.yml", "cloud.env", "local.env")),
        *((f"profiles/feature_store.{target}.yaml",) * 2 for target in TARGETS),
        ("feature_repo/definitions.py",) * 2,
        ("macros/generate_schema_name.sql", "dbt_project/macros/generate_schema_name.sql"),
        ("macros/create_feast_registry.sql", "dbt_project/macros/create_feast_registry.sql"),
        ("macros/wait_for_runner.sql", "dbt_project/macros/wait_for_runner.sql"),
        ("tests/generic/expression_is_true.sql",) * 2,
        ("tests/generic/unique_combination.sql",) * 2,
    ],
)
def test_what_every_project_has_is_that_of_the_shop(ours, theirs):
    path = REPOSITORY / theirs
    path = path if path.exists() else REPOSITORY / "dbt_project" / theirs
    text = (SKELETON / ours).read_text().replace("PROJECT_NAME", "shop")
    assert lines(text) == lines(path.read_text())


def test_two_builds_of_the_example_wait_for_each_other_as_those_of_a_new_project():
    example, profile = REPOSITORY / "examples" / "movielens", "profiles/profiles.yml"
    [name] = re.findall("application_name: .*", (SKELETON / profile).read_text())
    assert name in (example / profile).read_text()
    macro = "macros/wait_for_runner.sql"
    assert (example / macro).read_text() == (SKELETON / macro).read_text()


def instructions(text):
    """Return the instructions of a Dockerfile, continued lines joined."""
    return [line for line in text.replace("\\\n", "").splitlines() if line and line[0] != "#"]


def test_its_image_is_the_shops_but_for_where_runner_comes_from(project):
    ours = instructions((project / "Dockerfile").read_text())
    shop = instructions((REPOSITORY / "Dockerfile").read_text())
    here = {"requirements.lock": "requirements.txt", "dbt_project/models": "models"}
    for theirs, mine in here.items():
        shop = [line.replace(theirs, mine) for line in shop]
    assert [line for line in ours if line not in shop] == [
        "COPY wheels/*.whl /tmp/wheels/",
        "RUN pip install --no-deps --no-index /tmp/wheels/*.whl",
    ]
    # The shop's runs from its folder and compiles it; pip compiles what it installs.
    assert [line.split()[0] for line in shop if line not in ours] == ["ENV", "RUN", "RUN"]
    assert (project / "requirements.txt").read_text() == (
        REPOSITORY / "requirements.lock"
    ).read_text()


def test_its_containers_are_those_of_the_shop(project):
    ours, shop = (
        yaml.safe_load((root / "docker-compose.local.yml").read_text())["services"]
        for root in (project, REPOSITORY)
    )
    assert ours["pipeline"].pop("volumes") == ["mlruns:/app/mlruns"]
    assert ours["pipeline"].pop("image") == "my_shop_2:local"
    for name in ("volumes", "image", "tmpfs"):
        del shop["pipeline"][name]
    assert str(ours).replace("my_shop_2", "shop") == str(shop)


def test_what_pulumi_keeps_is_the_projects_own(project):
    assert yaml.safe_load((project / "deploy" / "Pulumi.yaml").read_text())["name"] == "my_shop_2"
    config = yaml.safe_load((project / "deploy" / "Pulumi.prod.yaml").read_text())["config"]
    assert {key.partition(":")[0] for key in config} == {"gcp", "my_shop_2"}
    assert config["my_shop_2:recipes"] == ["recipes/reorder.yaml"]
    assert not (project / "deploy" / "cloud").is_symlink()


def lines(text):
    """Return the lines of a file that are not comments."""
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("timestamps", "timestamps"), ("analyze_relation", "warehouse_hooks")],
)
def test_its_macros_are_those_of_the_shop(ours, theirs):
    shop = (REPOSITORY / "dbt_project" / "macros" / f"{theirs}.sql").read_text()
    macros = re.findall(
        r"{% macro .*?{%- endmacro %}", (SKELETON / "macros" / f"{ours}.sql").read_text(), re.DOTALL
    )
    assert len(macros) >= 3
    assert [macro for macro in macros if macro not in shop] == []


@pytest.mark.parametrize(
    "path",
    [
        "profiles.yml",
        "feature_repo/feature_store.yaml",
        "examples/movielens/feature_repo/feature_store.yaml",
    ],
)
def test_a_bare_dbt_and_feast_read_the_profiles_and_no_copy_of_them(path: str) -> None:
    assert (REPOSITORY / path).is_symlink()
