"""Forecasting of univariate series with N-BEATS ensembles. Start at ``task.py``; the README has the commands."""
