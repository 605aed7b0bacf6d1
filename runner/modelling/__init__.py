"""From training rows to a judged ML model: split, fit, tune, calibrate, score."""
