"""One process for all connections, which computes together what they ask one by one."""
