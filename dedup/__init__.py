"""Which blocks of a load are new, and on which pages they go."""
