"""Cases on disk to patches: files, layouts, checks, splits, sampling."""
