"""The docs name things that exist, and everything a user can type is in them."""

import ast
import json
import re
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml

from runner.cli import app
from runner.recipes.arguments import argument_problems
from runner.recipes.problems import keys_of
from runner.recipes.recipe import Recipe, load_recipe
from runner.recipes.yaml_source import load_yaml
from tests.recipe_files import recipe_text

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [
    README,
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
TOLD = [*PAGES, *sorted((ROOT / "examples").rglob("*.md")), ROOT / "runner/skeleton/README.md"]
ABOUT_RECIPES = ("recipe", "tuning", "evaluation", "gates", "lineage", "reproduce")
FOLDERS = (
    "dbt_project/",
    "runner/",
    "contract/",
    "serving/",
    "recipes/",
    "examples/",
    "docs/",
    "profiles/",
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_every_file_named_exists(page):
    text = page.read_text()
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    named = [name for name in re.findall(r"`([\w./-]+)`", text) if name.startswith(FOLDERS)]
    missing += [name for name in named if not (ROOT / name).exists()]
    assert not missing


SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("contract", "runner", "serving")
    for path in (ROOT / folder).rglob("*.py")
    if "skeleton" not in path.parts
}
# Not `project.dataset.table`, which is BigQuery's, and of modules only what is no variable.
PACKAGES = "|".join({path.parent.name for path in SOURCES.values()} - {"project"})
MODULES = "|".join({path.stem for path in SOURCES.values()})
NAME = rf"`((?:{PACKAGES})(?:\.\w+)+|(?:{MODULES})\.[A-Z]\w+)(?:\(\))?`"
FILE = r"(?<![\w./-])(?:(?:contract|runner|serving|tests)/[\w/]+\.py|docs/[\w/-]+\.md)"


def test_no_page_has_two_sides_of_a_merge():
    marked = [
        page.name for page in TOLD if re.search("^<{7} |^>{7} ", page.read_text(), re.MULTILINE)
    ]
    assert marked == []


def is_ours(name):
    """Tell whether `name` ends in one of our modules, or in what one defines at its top."""
    path, _, defined = name.rpartition(".")
    for module, source in SOURCES.items():
        if f".{module}".endswith(f".{name}"):
            return True
        if f".{module}".endswith(f".{path}") and re.search(
            rf"^(?:(?:class|(?:async )?def) )?{defined}\b", source.read_text(), re.MULTILINE
        ):
            return True
    return False


def test_every_module_and_file_that_the_code_names_exists():
    missing = []
    for module, source in SOURCES.items():
        text = source.read_text()
        named = [name for name in re.findall(NAME, text) if not name.endswith(".json")]
        missing += [(module, name) for name in named if not is_ours(name)]
        missing += [(module, f) for f in re.findall(FILE, text) if not (ROOT / f).exists()]
    assert missing == []


def test_no_message_names_a_page_that_projects_do_not_have():
    """`runner help PAGE` shows one anywhere; `docs/` is only in the repository."""
    told = []
    for module, source in SOURCES.items():
        nodes = list(ast.walk(ast.parse(source.read_text())))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        texts = [n for n in nodes if isinstance(n, ast.Constant) and id(n) not in docstrings]
        told += [(module, n.value) for n in texts if re.search(r"docs/[\w-]+\.md", str(n.value))]
    assert told == []


def test_a_name_is_ours_by_its_end_only_if_something_has_it():
    assert is_ours("runner.warehouse.postgres.merge")
    assert is_ours("postgres.merge")
    assert is_ours("join.join_parts.JoinColumn")
    assert not is_ours("postgres.merger")
    assert not is_ours("join.join_parts.JoinColumns")


def test_every_command_is_in_the_readme():
    commands = typer.main.get_command(app).commands
    assert [name for name in commands if f"runner {name}" not in README.read_text()] == []


def test_every_command_and_option_explains_itself():
    for name, command in typer.main.get_command(app).commands.items():
        assert command.help, name
        for option in command.params:
            if option.name != "help":
                assert getattr(option, "help", None), f"{name} {option.name}"


def test_every_page_of_the_docs_is_in_the_readmes_groups():
    text = README.read_text()
    groups = text[text.index("## Documentation") : text.index("## Where things are")]
    assert groups.count("\n| To ") == 4
    pages = (ROOT / "docs").glob("*.md")
    assert [page.name for page in pages if f"(docs/{page.name})" not in groups] == []


def test_every_alert_has_a_row_in_the_page_on_operations():
    rules = yaml.safe_load((ROOT / "monitoring/alerts.yml").read_text())
    alerts = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    page = (ROOT / "docs/operations.md").read_text()
    rows = "".join(line for line in page.splitlines() if line.startswith("| `"))
    assert [alert for alert in alerts if f"`{alert}`" not in rows] == []


def test_every_make_target_is_in_the_readme_and_the_other_way_round():
    rules = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    text = README.read_text().replace("`bench-", "`make bench-")
    named = set(re.findall(r"make ([a-z-]+)", text)) - {"and"}
    assert named <= set(rules)
    assert set(rules) - {"help", "install", "clean"} <= named


def test_the_recipe_in_the_readme_is_the_recipe_of_the_repository(tmp_path):
    shown = re.search(r"```yaml\n# recipes/rf.yaml\n(.*?)```", README.read_text(), re.DOTALL)
    real = yaml.safe_load((ROOT / "recipes/rf.yaml").read_text())
    real.pop("description")
    assert yaml.safe_load(shown[1]) == real
    (tmp_path / "rf.yaml").write_text(shown[1])
    load_recipe(tmp_path / "rf.yaml")


def commands(text):
    """Yield the arguments of every `runner` command in the text, in its blocks and in its lines."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    inline = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", inline)]
    for line in lines:
        for part in re.split(r"\|+|&+|;", line.partition(" #")[0].removeprefix("$ ")):
            if part.count("'") % 2:  # the end of what `sh -c` is given
                part = part.replace("'", "")
            words = part.replace("[--", "--").replace("]", "").split()
            if words[:1] == ["runner"] and len(words) > 1:
                yield shlex.split(" ".join(words[1:]))


COMMANDS = {
    f"{page.relative_to(ROOT)}: {shlex.join(arguments)}": arguments
    for page in TOLD
    for arguments in commands(page.read_text())
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_every_command_in_the_docs_has_these_arguments_and_options(arguments):
    command = typer.main.get_command(app)
    while arguments and (below := getattr(command, "commands", {})):
        name, *arguments = arguments
        if name.startswith("-"):
            assert name in {"--help", "--version"}
            return
        assert name in below
        command = below[name]
    if arguments and arguments != ["--help"]:
        command.make_context(command.name, arguments)  # raises what the command line would say


def test_the_docs_show_commands_in_blocks_in_lines_and_in_pipes():
    text = "`runner up`, `runner\nplan x.yaml [--target cloud]`\n"
    block = "```bash\n$ runner a && runner b\nrunner c -o \\\n d | jq # runner e\n```\n"
    assert list(commands(text + block)) == [
        ["a"],
        ["b"],
        ["c", "-o", "d"],
        ["up"],
        ["plan", "x.yaml", "--target", "cloud"],
    ]
    assert len(COMMANDS) > 60


EXAMPLES = {
    f"{name}.md {i}": block
    for name in ABOUT_RECIPES
    for i, block in enumerate(
        re.findall(r"```yaml\n(.*?)```", (ROOT / f"docs/{name}.md").read_text(), re.DOTALL)
    )
}


@pytest.mark.parametrize("block", EXAMPLES.values(), ids=EXAMPLES)
def test_every_yaml_block_about_recipes_is_one_or_a_part_of_one(block, tmp_path):
    (tmp_path / "block.yaml").write_text(block)
    (tmp_path / "whole.yaml").write_text(recipe_text({16: None}))
    shown = load_yaml(tmp_path / "block.yaml").data
    assert shown.keys() <= keys_of(Recipe).keys()
    whole = load_yaml(tmp_path / "whole.yaml").data
    (tmp_path / "recipe.yaml").write_text(json.dumps(whole | shown))
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert list(argument_problems(recipe)) == []
