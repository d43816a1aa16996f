"""Command lines on top of the library."""
