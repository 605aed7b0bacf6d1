"""What a served model was asked and answered, compared with its training rows."""
