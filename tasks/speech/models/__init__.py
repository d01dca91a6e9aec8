"""Networks that map features ``(B, T, F)`` to logits ``(B, classes)``; they end in ``output``, a linear layer."""
