"""The sample: a shop as a modular monolith, told in nine scenarios. `README.md` says where to begin."""
