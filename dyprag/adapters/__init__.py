"""LoRA adapters: data structures, training, injection into the base model, and generation with them."""
