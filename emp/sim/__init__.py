"""Worlds: market simulators, paper venues, chaos."""
