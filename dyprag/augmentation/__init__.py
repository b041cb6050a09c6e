"""Stage 1, first half: rewrites and question-answer pairs of each document (§3.1)."""

PROMPT_VERSION = "local-4"  # part of every augmentation's key: raise it with any change of prompts or rules
