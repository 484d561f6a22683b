"""Bounded per-instrument queues, ordering guard, back-pressure: how events reach the engine."""
