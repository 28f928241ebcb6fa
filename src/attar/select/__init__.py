"""Selectors: methods that keep real examples. One paper, one file."""
