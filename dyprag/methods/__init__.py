"""Methods of answering a question: one file per method, a common protocol, and the registry (`spec`).

Nothing is imported here, so that planning can use the registry without loading torch.
"""
