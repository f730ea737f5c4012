"""Looking into a trained network: a file a figure, which computes arrays and draws them, and a report of all."""
