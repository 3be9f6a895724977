"""From checkpoint files to rows: read, map names, cut, write in one transaction."""
