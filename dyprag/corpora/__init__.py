"""Documents and questions: what they are, where they rest, how files become text, data sets, and retrieval."""
