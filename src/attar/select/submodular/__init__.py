"""Submodular set functions: each tells what an example would add to the picks so far. One function, one file."""
