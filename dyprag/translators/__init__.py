"""Translators: what makes a document's adapter in one forward pass, and how one is trained."""
