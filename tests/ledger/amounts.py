"""What the last digit of an amount makes happen, so that writers, handlers and judge agree without talking."""

__all__ = ["failures_of", "hesitates", "is_doomed", "is_refused", "is_refused_late"]


def failures_of(amount: int) -> int:
    """How often the flaky handler fails before it succeeds."""
    return {3: 2, 4: 1}.get(amount % 10, 0)


def hesitates(amount: int) -> bool:
    """The slow handler outlives its timeout in its first attempt, and hides the cancellation."""
    return amount % 10 == 5


def is_refused(amount: int) -> bool:
    """The transfer is rolled back."""
    return amount % 10 in (7, 8)


def is_refused_late(amount: int) -> bool:
    """It is rolled back after its event was converted."""
    return amount % 10 == 8


def is_doomed(amount: int) -> bool:
    """The strict handler fails until somebody heals it."""
    return amount % 10 == 9
