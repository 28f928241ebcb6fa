"""Resources: what is costly and shared by methods; each is a run of its own, built once and cached."""
