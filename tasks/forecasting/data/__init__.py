"""Series for forecasting: sources, checks, treatments."""
