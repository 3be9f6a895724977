"""The commands, by what they are about; modules that take time to import are imported in them."""
