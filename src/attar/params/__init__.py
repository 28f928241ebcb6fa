"""What a small set is made of: pixels, tiles, frequencies, bases; :mod:`attar.params.table` names them."""
