"""Prediction of channel state information: CSI-4CAST beside classical predictors, on 3GPP 38.901 channels."""
