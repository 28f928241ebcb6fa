"""Uses of a condensed set: loaders for one's own training loop, and selections that are renewed on the way."""
