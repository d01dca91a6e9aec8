"""Networks for images at work: tiles, exact means over the whole image, self-ensemble, the fastest form on a CPU."""
