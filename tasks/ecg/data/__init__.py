"""Records and their labels: files, layouts, code systems, the synthetic default."""
