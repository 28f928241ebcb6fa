"""The verbs: what a user does, the same in Python and on the command line."""
