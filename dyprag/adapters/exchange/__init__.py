"""Adapters for other programs and from them: PEFT's format, and a model with an adapter merged in."""
