"""The real set: the large dataset, read from anywhere, as named typed columns with stable ids."""
