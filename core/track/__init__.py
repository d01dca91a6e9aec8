"""Run folders, their MLflow mirror, model packages and the registry.

Importing this package loads neither MLflow nor torch.
"""
