"""Image super-resolution with RCAN and CARN. Start at ``task.py``; the README has the commands."""
