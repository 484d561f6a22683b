"""Aids to compiled code: the decorator and its cache, borrowed arrays, vectors, bits, random numbers."""
