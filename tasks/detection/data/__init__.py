"""Reading, checking, splitting and writing data sets."""
