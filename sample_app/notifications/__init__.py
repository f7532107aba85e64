"""Notifications: what customers are told."""
