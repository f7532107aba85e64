"""Ordering: customers, what they are offered, and what became of their orders."""
