"""The command line: one small file for each verb; asking for help loads no torch."""
