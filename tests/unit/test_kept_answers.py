"""Lineage and scikit-learn's verdicts are kept, and never for anything but what they are of."""

import sys

import pytest

from runner.commands.training import argument_verdicts
from runner.commands.training.argument_verdicts import ArgumentVerdicts
from runner.lineage import kept_lineage
from runner.lineage.kept_lineage import KeptLineage
from runner.lineage.lineage_graph import Lineage, LineageColumn
from runner.project import freshness
from runner.project.freshness import fingerprint
from runner.recipes.arguments import argument_problems
from runner.recipes.recipe import load_recipe
from runner.settings import Settings
from tests.recipe_files import recipe_text

A, B, C = (LineageColumn("raw.a", "x"), LineageColumn("m", "*"), LineageColumn("m", "y"))
LINEAGE = Lineage(
    parents={A: (), B: (A,), C: (A, B)},
    raw=frozenset({"raw.a"}),
    unresolved={B: "its SQL cannot be read"},
    reads={"m": ("raw.a",), "raw.a": ()},
    disabled=frozenset({"off"}),
    open=frozenset({"raw.a", "m"}),
)


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "dbt_project.yml").write_text("name: shop\n")
    return Settings("local", tmp_path, {})


def test_kept_lineage_is_read_back_as_it_was(settings):
    assert KeptLineage(settings, fingerprint(settings)).read() is None
    KeptLineage(settings, fingerprint(settings)).write(LINEAGE)
    assert KeptLineage(settings, fingerprint(settings)).read() == LINEAGE


def test_lineage_of_other_sql_or_by_another_sqlglot_is_not_read(settings, monkeypatch):
    before = fingerprint(settings)
    KeptLineage(settings, before).write(LINEAGE)
    with monkeypatch.context() as patch:
        patch.setattr(kept_lineage, "version", lambda _: "0")
        assert KeptLineage(settings, before).read() is None
    (settings.root / "models").mkdir()
    (settings.root / "models/m.sql").write_text("select 1 as y")
    assert KeptLineage(settings, fingerprint(settings)).read() is None
    assert KeptLineage(settings, None).read() is None


def test_lineage_of_a_project_that_changed_meanwhile_is_not_kept(settings):
    before = fingerprint(settings)
    (settings.root / "packages.yml").write_text("packages: []\n")
    KeptLineage(settings, before).write(LINEAGE)
    assert KeptLineage(settings, before).read() is None


@pytest.fixture
def recipe(tmp_path):
    """Return the recipe with another line of `init_args`."""

    def written(arguments):
        path = tmp_path / "rf.yaml"
        path.write_text(recipe_text({14: f"  init_args: {arguments}"}))
        return load_recipe(path)

    return written


WRONG = "{n_estimators: 0, max_dept: 3}"


def test_a_verdict_is_scikit_learns_and_is_given_again_without_it(settings, recipe, monkeypatch):
    wrong, right = recipe(WRONG), recipe("{n_estimators: 10}")
    for one in (wrong, right):
        assert ArgumentVerdicts(settings).problems(one) == argument_problems(one)

    def judge(_):
        raise AssertionError("asked again")

    expected = argument_problems(wrong)
    monkeypatch.setattr(argument_verdicts, "argument_problems", judge)
    assert ArgumentVerdicts(settings).problems(wrong) == expected
    assert ArgumentVerdicts(settings).problems(right) == []


@pytest.mark.parametrize("other", ["{n_estimators: 10.0}", "{n_estimators: true}", WRONG, "{}"])
def test_other_arguments_are_judged_anew(settings, recipe, other):
    ArgumentVerdicts(settings).problems(recipe("{n_estimators: 10}"))
    assert ArgumentVerdicts(settings).problems(recipe(other)) == argument_problems(recipe(other))


def test_another_scikit_learn_judges_anew(settings, recipe, monkeypatch):
    ArgumentVerdicts(settings).problems(recipe("{n_estimators: 10}"))
    asked = []
    monkeypatch.setattr(argument_verdicts, "version", lambda _: "99")
    monkeypatch.setattr(
        argument_verdicts,
        "argument_problems",
        lambda one: asked.append(one) or [],
    )
    ArgumentVerdicts(settings).problems(recipe("{n_estimators: 10}"))
    assert len(asked) == 1


def test_what_other_code_of_ours_worked_out_is_not_read(settings, recipe, monkeypatch):
    ArgumentVerdicts(settings).problems(recipe(WRONG))
    KeptLineage(settings, fingerprint(settings)).write(LINEAGE)
    freshness.keep(settings, "parsed", {"project": "x"})
    monkeypatch.setattr(freshness, "code_digest", lambda: "another")
    for name in ("arguments", "lineage", "parsed"):
        assert freshness.kept(settings, name) == {}


def test_a_damaged_file_is_as_if_nothing_was_kept(settings, recipe):
    (settings.root / "target/runner").mkdir(parents=True)
    for name in ("arguments", "lineage", "parsed"):
        (settings.root / f"target/runner/{name}.json").write_text("[1, ")
    assert ArgumentVerdicts(settings).problems(recipe(WRONG)) == argument_problems(recipe(WRONG))
    assert KeptLineage(settings, fingerprint(settings)).read() is None
    assert sys.modules["sklearn"]
