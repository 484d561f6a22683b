"""Order and back-pressure: bounded queues per instrument, an ordering guard, degraded mode."""
