"""What is known of written language: one normal form of words, their units in every script, sentences, and English."""
