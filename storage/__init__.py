"""Where things rest: artifacts as folders named by their key, and a DuckDB catalogue that can be made again from them."""
