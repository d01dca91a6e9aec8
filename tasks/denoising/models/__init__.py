"""Networks for denoising, each in its own file."""
