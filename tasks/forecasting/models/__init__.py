"""Forecasting networks. Each is a plain module in a file of its own; training them is not their business."""
