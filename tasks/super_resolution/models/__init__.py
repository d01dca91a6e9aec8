"""Networks for super-resolution, each in its own file."""
