"""How and where work runs: device, threads and precision; progress; signals; checkpoints."""
