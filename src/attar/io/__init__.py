"""Floor 0: durable files, and safe reading of everything that comes from outside."""
