"""Recordings: audio files, folders of words, splits by speaker, and the clips of an epoch."""
