"""Keyword spotting with small residual networks. Start at ``task.py``; the README has the commands."""
