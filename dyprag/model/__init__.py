"""The base model: its files, tokenizer and chat template, and the prompts for questions."""
