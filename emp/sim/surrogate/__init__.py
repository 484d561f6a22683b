"""Surrogates of the simulated market: worlds that leap from decision to decision instead of playing every event."""
