"""More than one machine: bulk encoding on Ray, files, replicas, and what all of it would cost."""
