"""Task packages: each turns the core into trained, measured and registered models of one field."""
