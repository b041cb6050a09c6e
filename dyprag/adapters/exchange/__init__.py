"""Exchange with other programs: export and import in PEFT's format, and models with a merged adapter."""
