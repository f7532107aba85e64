"""What we promise, clause by clause: each file proves one of `docs`' guarantees, most of them by killing processes."""
