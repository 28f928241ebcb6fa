"""What a small set is made of: pixels here; tiles, bases, frequencies and latents join them."""
