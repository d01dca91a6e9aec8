"""Object detection: RTMDet on any backbone of the core."""
