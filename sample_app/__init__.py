"""The sample: a shop as a modular monolith, told in fourteen scenarios. `README.md` says where to begin."""
