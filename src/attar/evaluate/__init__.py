"""How good a small set is: protocols, baselines and scores. Nothing here knows how a set was made."""
