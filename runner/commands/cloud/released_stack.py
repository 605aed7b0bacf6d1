"""What a release reads and changes of `deploy/Pulumi.<stack>.yaml`: the key `releases`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from runner.errors import RunnerError


class TrafficShare(BaseModel):
    """How requests are shared between two revisions of one API.

    Attributes
    ----------
    stable
        The revision that gets what `share` leaves.
    share
        Percent of the requests that go to the newest revision.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stable: str
    share: int


class _StackConfig(BaseModel):
    model_config = ConfigDict(frozen=True)

    project: str
    region: str
    recipes: list[str]
    serve: bool
    releases: dict[str, TrafficShare]


class ReleasedStack:
    """The settings of one stack.

    Attributes
    ----------
    project, region
        Google's.
    apis
        The names of the served recipes, as Cloud Run has them.
    releases
        By API, how its requests are shared.
    """

    def __init__(self, root: Path, stack: str) -> None:
        self.name = stack
        self.folder = root / "deploy"
        self.path = self.folder / f"Pulumi.{stack}.yaml"
        config = _read(self.path)
        self.project = config.project
        self.region = config.region
        self.releases: Mapping[str, TrafficShare] = config.releases
        self.apis = [_api_name(recipe) for recipe in config.recipes]
        if not config.serve:
            raise RunnerError(
                f"{self.path}: serve is false, so there is no API to release",
                hint="set `serve: true` and run `pulumi up` in deploy/",
            )

    def share(self, releases: Mapping[str, TrafficShare]) -> None:
        """Write how requests are shared; everything else in the file stays, comments too."""
        text = self.path.read_text(encoding="utf-8")
        start, end = _span(text)
        plain = {name: release.model_dump() for name, release in releases.items()}
        flow = yaml.safe_dump(plain, default_flow_style=True, width=10_000, sort_keys=False).strip()
        self.path.write_text(text[:start] + flow + text[end:], encoding="utf-8")
        self.releases = releases


def _api_name(recipe: str) -> str:
    # As `recipe_name` in deploy/cloud/settings.py, which is a program of its own.
    return PurePosixPath(recipe).stem.lower().replace("_", "-")


def _read(path: Path) -> _StackConfig:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))["config"]
        return _StackConfig.model_validate({key.partition(":")[2]: config[key] for key in config})
    except (OSError, yaml.YAMLError, KeyError, TypeError) as err:
        raise RunnerError(
            f"{path}: no settings of a deployment",
            hint="copy deploy/ from a project of `runner init`, or name another --stack",
        ) from err
    except ValidationError as err:
        problem = err.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        hint = "write it as `runner help cloud` shows"
        if (key, problem["type"]) == ("releases", "missing"):
            hint = "add `<project>:releases: {}`"
        raise RunnerError(f"{path}: {key}: {problem['msg']}", hint=hint) from err


def _span(text: str) -> tuple[int, int]:
    """Return where the value of `<project>:releases` begins and ends."""
    [config] = [value for key, value in _items(yaml.compose(text)) if key == "config"]
    [found] = [value for key, value in _items(config) if key.endswith(":releases")]
    return found.start_mark.index, _end(found)


def _items(node: yaml.Node | None) -> list[tuple[str, yaml.Node]]:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return [(str(key.value), value) for key, value in pairs]


def _end(node: yaml.Node) -> int:
    """Return where a value ends: of a block, PyYAML says where the next key begins."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style:
        return _end(node.value[-1][1])
    return int(node.end_mark.index)
