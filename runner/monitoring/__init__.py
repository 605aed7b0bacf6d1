"""What a served model was asked and answered, held against its training rows."""
