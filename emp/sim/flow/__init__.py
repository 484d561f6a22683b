"""Order flow: who sends what to the simulated book, and when."""
