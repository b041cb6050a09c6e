"""Documents and questions: their types, their locations, file readers, data sets, and retrieval."""
