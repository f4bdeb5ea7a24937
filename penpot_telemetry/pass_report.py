"""What one pass did, in numbers, and what an operator should know of it, in words."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class PassReport:
    """What one pass did, in events; `failure` says why it stopped early, and then everything unsent is kept.

    `refused` counts requests. `quarantined` rows became dead letters here, `dead_letters` events became some at
    the receiver. `mismatches` counts batches on which the two ledgers differ.
    """

    batches: int = 0
    shipped: int = 0
    refused: int = 0
    quarantined: int = 0
    dropped: int = 0
    adopted: int = 0
    missing: int = 0
    pending: int = 0
    dead_letters: int = 0
    verified: int = 0
    mismatches: int = 0
    failure: str | None = None
    warnings: list[str] = field(default_factory=list)

    def warn_of_loss(self, cap_rows: int) -> None:
        """Warns when garbage collection dropped events of a pass that sent nothing."""
        if self.failure and self.dropped and not self.shipped:
            self.warnings.append(
                f"NOTHING WAS SENT, and {self.dropped:,} of the oldest events were dropped, because more than "
                f"{cap_rows:,} waited (PENPOT_TELEMETRY_CAP_ROWS): check the address and the receiver"
            )
