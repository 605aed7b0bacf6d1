"""From a fitted pipeline to a serving bundle, and back to a loaded model version."""
