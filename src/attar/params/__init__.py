"""What a small set is made of: pixels, tiles, frequencies, bases, a memory; :mod:`attar.params.table` names them."""
