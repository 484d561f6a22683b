"""How long it takes to get flat: a busy venue in a process of its own, and the engine in front of it."""
