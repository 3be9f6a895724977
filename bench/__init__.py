"""Measured against peers: ratios, side by side in one run, several pairs."""
