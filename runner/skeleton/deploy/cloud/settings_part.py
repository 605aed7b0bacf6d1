"""The base of every part of the settings: complete, correctly typed, without unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class SettingsPart(BaseModel):
    """Keys of `Pulumi.<stack>.yaml` that belong together."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
