"""The base model: its files, its tokenizer and chat template, and how a question is put to it."""
