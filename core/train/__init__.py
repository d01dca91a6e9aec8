"""The training loop and what it stands on: seeds, precision, checkpoints, distribution, ensembles."""
