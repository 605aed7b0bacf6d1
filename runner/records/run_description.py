"""What MLflow's pages show of a run at first: who trained it, from what, and how good it is."""

from __future__ import annotations

import getpass
import re

from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_RUN_NOTE,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)

from runner.records.run_record import Training

_COMMIT = re.compile("[0-9a-f]{40}")


def shown_tags(training: Training) -> dict[str, str]:
    """Return the tags by which MLflow shows a run's user, source, commit and description."""
    recipe, root = training.recipe.path.resolve(), training.prepared.settings.root
    source = recipe.relative_to(root) if recipe.is_relative_to(root) else recipe
    commit = _COMMIT.match(training.lineage["git_commit"])
    return {
        MLFLOW_USER: _user(),
        MLFLOW_SOURCE_NAME: str(source),
        MLFLOW_SOURCE_TYPE: "LOCAL",
        MLFLOW_RUN_NOTE: description(training),
        **({MLFLOW_GIT_COMMIT: commit[0]} if commit else {}),
    }


def description(training: Training) -> str:
    """Return the verdict, the scores and what was trained, as Markdown."""
    verdict = (
        "**The gate refused it:** " + "; ".join(map(_text, training.refusals))
        if training.refusals
        else "**It passed the gate.**"
    )
    described = [_text(training.recipe.description)] if training.recipe.description else []
    scores = _table(("scorer", "training rows", "test rows", "95% CI"), _scores(training))
    trained = _table(("what", "value"), _trained(training))
    return "\n\n".join([*described, verdict, scores, trained])


def interval_text(training: Training, scorer: str) -> str:
    """Return the 95% CI of a score on the test rows; empty where there is none."""
    found = training.model.intervals.get(scorer)
    return f"{found.low:.4f} to {found.high:.4f}" if found else ""


def _scores(training: Training) -> list[tuple[str, ...]]:
    found = training.model.evaluation
    return [
        (name, f"{found.train[name]:.4f}", f"{found.test[name]:.4f}", interval_text(training, name))
        for name in training.recipe.scoring
    ]


def _trained(training: Training) -> list[tuple[str, ...]]:
    prepared = training.prepared
    rows = ", ".join(f"{len(part.y):,} {name}" for name, part in prepared.data.parts.items())
    return [
        ("registered model", training.recipe.registered_model_name),
        ("label", training.recipe.label),
        ("spine", training.lineage["spine"]),
        ("rows", f"{rows}, {prepared.data.split.embargoed:,} in the embargo"),
        ("model inputs", f"{len(prepared.inputs):,}"),
        ("estimator", training.recipe.estimator.class_path),
        ("served as", training.model.served.format),
        ("champion then", training.model.comparison.summary),
    ]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *(tuple(map(_text, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: str) -> str:
    """Return `text` on one line, as Markdown that shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", " ".join(text.split()))


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user may have no name
        return "unknown"
