"""The API's own variables: what it does besides answering, and what one request may cost.

Cloud Run decides the others: where to listen, how many connections and requests there may be at
once, how to shut down.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from cloud.settings_part import SettingsPart


class ServingOptions(SettingsPart):
    """Each but `events` and `shadow` is the variable `SERVING_<NAME>`; docs/serving.md has them.

    Attributes
    ----------
    events
        Whether clients may send events and push rows, with a key of their own.
    shadow
        The alias of the version that answers beside the champion, for the log only.
    """

    events: bool
    shadow: str | None = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    shadow_share: float = Field(gt=0, le=1)
    log_share: float = Field(ge=0, le=1)
    log_max_bytes: int = Field(ge=1, lt=2**31)
    max_rows: int = Field(ge=1, lt=2**31)
    max_body_bytes: int = Field(ge=1, le=32 << 20)  # Cloud Run takes no more
    timeout_seconds: float = Field(gt=0, le=3600)
    redis_timeout_seconds: float = Field(gt=0, le=60)
    ready_needs_features: bool

    @model_validator(mode="after")
    def _shadow_is_logged(self) -> ServingOptions:
        if self.shadow and not self.log_share:
            raise ValueError("shadow needs the serving log, which log_share: 0 turns off")
        return self

    def variables(self, model: str) -> dict[str, str]:
        """Return the variables of the API that answers with `model`, a registered name."""
        plain = self.model_dump(exclude={"events", "shadow"})
        found = {f"SERVING_{name.upper()}": str(value).lower() for name, value in plain.items()}
        return found | ({"SERVING_SHADOW": f"models:/{model}@{self.shadow}"} if self.shadow else {})
