"""Billing: an invoice for each order, and the money for it."""
