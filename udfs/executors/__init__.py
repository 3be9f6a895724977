"""Who computes: this backend, or the serving process at the end of a wire."""
