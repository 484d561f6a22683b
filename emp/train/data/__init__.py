"""Recordings to rows: what perception saw, labels, chunks, and where they are cached."""
