"""The commands behind `offrl`."""
