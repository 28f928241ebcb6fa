"""Pictures of a condensed set: the page, the comparison and the terminal's tables."""
