"""What the bench's figures should come to. Data, and the check that CI makes of it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Target(msgspec.Struct, frozen=True):
    """A bound that a figure should keep."""

    bound: float
    is_most: bool = False
    """The figure should be at most so much; otherwise at least."""
    reached: float | None = None
    """What has been reached so far, where that falls short of the bound: a share of this is demanded then."""

    def is_missed(self, figure: float, share: float) -> bool:
        """Tell whether a figure is beyond what is tolerated: `share` of the bound, or the bound over `share`."""
        if self.is_most:
            return figure > self.demanded / share
        return figure < self.demanded * share

    @property
    def demanded(self) -> float:
        """What a share is demanded of."""
        return self.reached or self.bound

    def __str__(self) -> str:
        return f"{'at most' if self.is_most else 'at least'} {self.bound:g}"


TARGETS = {
    "accept_vs_bare_route": Target(0.5),
    "accept_vs_single_insert": Target(1.5),
    "apply_vs_copy": Target(0.2),
    "apply_vs_per_row": Target(6),
    "backfill_vs_dlt": Target(4, reached=2.4),
    "apply_rtt5_vs_per_row": Target(20),
    "growth": Target(0.7),
    "daemon_rss_mb": Target(200, is_most=True),
    "otp_flood_hooks_share": Target(0.4),
    "lag_p99_ms": Target(250, is_most=True),
    "track_vs_bare_route": Target(0.5),
    "track_p99_ms": Target(15, is_most=True, reached=20),
}


def missed(figures: Mapping[str, float], share: float) -> list[str]:
    """Return a sentence for each figure that does not come to this share of its target."""
    return [
        f"{key} is {figures[key]:.2f}: the target is {target}, and {share:.0%} of {target.demanded:g} are demanded here"
        for key, target in TARGETS.items()
        if target.is_missed(figures[key], share)
    ]
