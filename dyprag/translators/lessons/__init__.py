"""Training data of translators: documents with questions that are invented, extracted by rules, or asked by people."""
