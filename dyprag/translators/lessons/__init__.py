"""What translators learn from: documents with questions, invented, extracted, or asked by people."""
