"""LoRA adapters: their shapes, how one is trained, how several are injected, and what the model says with them."""
