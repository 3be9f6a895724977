"""The revisions, in order; each is a pair of SQL scripts beside its Python file."""
