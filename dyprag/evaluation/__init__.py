"""How answers are scored, and with what certainty."""
