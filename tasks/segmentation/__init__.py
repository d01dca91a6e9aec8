"""Segmentation: every pixel or voxel gets a class, in images and in volumes."""
