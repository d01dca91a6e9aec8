"""Networks of the CSI task."""
