"""Answers over HTTP: rows with adapters of their own are written together, and join and leave between two tokens."""
