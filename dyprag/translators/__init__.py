"""Translators make a document's adapter in one forward pass. This package defines, trains and stores them."""
