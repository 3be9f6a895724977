"""What runs inside the PostgreSQL backend: page cache, operators, forward pass, SQL surface."""
