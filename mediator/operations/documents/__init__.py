"""Documents that are generated from the contracts: for people, for tools, and the same bytes in every run."""
