"""Does an adapter carry what its document says? Documents with known facts, and how many of them come back."""
