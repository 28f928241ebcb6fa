"""Scores: plain functions from signals to one number an example, high = keep. Rules turn them into a choice."""
