"""Networks that map normalised signals ``(B, leads, L)`` to logits ``(B, classes)``."""
