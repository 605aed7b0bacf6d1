"""What every part of the settings is: complete, of the right types, and without other keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class SettingsPart(BaseModel):
    """Keys of `Pulumi.<stack>.yaml` that belong together."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
