"""Belief to intent: edge against costs, cross, post or hold, size."""
