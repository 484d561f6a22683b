"""Recordings replayed order by order, and held against what they show."""
