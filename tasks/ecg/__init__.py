"""Abnormalities in electrocardiograms: ResNet-1D and 1D-CNN-ECG-Mamba. Research software, not a medical device."""
