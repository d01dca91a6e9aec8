"""Image denoising with DnCNN and RIDNet. Start at ``task.py``; the README has the commands."""
