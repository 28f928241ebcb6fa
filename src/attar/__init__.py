"""attar makes a dataset small and proves what the small one kept."""

__version__ = "0.1.0"
