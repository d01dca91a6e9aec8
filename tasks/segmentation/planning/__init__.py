"""From a data set to a network and a pipeline, by rules: nnU-Net's planning."""
