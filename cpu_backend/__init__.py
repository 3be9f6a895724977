"""Compiled kernels that compute on the blocks of a version where they lie in the mapped pages."""
