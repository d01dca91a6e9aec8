"""Networks, each in a file with its paper."""
