"""For tests of applications that use the toolkit."""

from mediator.testing.failpoints import FAILPOINTS, kill_at

__all__ = ["FAILPOINTS", "kill_at"]
