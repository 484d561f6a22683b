"""Estimating flow models: event by event from a recording, and what only simulations tell."""
