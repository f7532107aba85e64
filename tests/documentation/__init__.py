"""What the documentation shows works."""
