"""Data helpers that several tasks share."""
