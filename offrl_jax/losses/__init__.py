"""Parameter-free maths of the losses."""
