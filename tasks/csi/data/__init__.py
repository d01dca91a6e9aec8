"""Channels: generator, files, disturbances."""
