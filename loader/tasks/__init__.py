"""Tasks: adapters and other small sets of edits, read from what libraries save, kept in tables."""
