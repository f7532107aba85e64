"""What billing does when something happens elsewhere."""
