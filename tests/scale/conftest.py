"""What the tests of selection at scale share."""

from scale_kit import here

__all__ = ["here"]
