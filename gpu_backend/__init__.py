"""Operators on a GPU, through CuPy: the only room that imports it."""
