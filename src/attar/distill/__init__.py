"""Distillation methods, one paper per file."""
