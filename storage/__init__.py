"""Storage: artifacts as folders named by their keys, and a DuckDB catalogue that can be rebuilt from them."""
