"""Speed against peers, measured side by side in one run. One script a comparison."""
