"""Inventory: what lies on the shelves, and what is set aside for whom."""
