"""What can be done with stock, and what inventory does when something happens elsewhere."""
