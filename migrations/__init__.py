"""What changes the tables, once and in order, and what installs everything around them."""
