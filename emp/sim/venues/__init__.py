"""Venues that speak a protocol, for tests and for the built-in market over loopback."""
