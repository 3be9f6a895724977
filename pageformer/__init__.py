"""Transformer encoders inside PostgreSQL: weights are rows, encode() is SQL."""
