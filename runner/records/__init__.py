"""What a training leaves in MLflow, and how it is read back."""
