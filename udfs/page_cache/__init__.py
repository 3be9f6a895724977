"""Pages in memory once for all connections: files, their room, and which are worth it."""
