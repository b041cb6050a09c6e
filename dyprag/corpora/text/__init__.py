"""Text processing: one normal form of words, their units in every script, sentences, and knowledge about English."""
