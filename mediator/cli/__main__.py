"""`python -m mediator.cli`."""

from mediator.cli import main

main()
