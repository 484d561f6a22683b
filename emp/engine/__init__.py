"""Composition: the compiled hot path, the engine around it, live wiring, recovery."""
