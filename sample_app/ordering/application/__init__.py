"""What can be done with orders, and what ordering does when something happens elsewhere."""
