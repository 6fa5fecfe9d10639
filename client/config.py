"""`config.toml` of a client: every key has a default, and the file may be absent."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

PASSWORD_VARIABLE: Final = "GLOAM_PASSWORD"  # noqa: S105 - the name of a variable
OTP_VARIABLE: Final = "GLOAM_OTP"
"""What automation may log in with; no settings, and not handed to the agent."""


class ClientSettings(BaseModel):
    """How this device's commands behave."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    warm: int = Field(
        default=2,
        ge=0,
        le=8,
        description="Connections gloam forward keeps ready at its gateway, so that a tunnel opens in one round trip.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What the agent writes to agent.log, and from which level up."
    )
