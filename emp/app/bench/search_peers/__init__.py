"""Searches of others on the same trees: scripts for an interpreter that has them, and what is made of their answers."""
