"""Messages name this module, and what is in it. Whoever looks up what a message names has imported it."""

__all__ = ["Trap", "spring"]

SPRUNG: list[str] = []


def spring(*_arguments: object) -> None:
    """Leave a trace."""
    SPRUNG.append("called")


class Trap:
    """Leaves a trace when it is made."""

    def __init__(self, *_arguments: object) -> None:
        spring()
