"""Where things rest: artifacts as folders named by their key, and a DuckDB catalogue that they can rebuild."""
