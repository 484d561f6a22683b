"""Self-play, constraints, exploitability."""
