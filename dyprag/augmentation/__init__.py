"""Stage 1, first half: rewrites and question-answer pairs of each document (§3.1)."""

LOCAL_VERSION = "local-5"  # part of the keys of what the local model writes: raise it with any change of its rules
