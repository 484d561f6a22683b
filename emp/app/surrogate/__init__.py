"""Training surrogates of the simulated market, judging them, and their speed."""
