"""The tables, and every SQL statement of the toolkit, with the few that differ between databases side by side."""
