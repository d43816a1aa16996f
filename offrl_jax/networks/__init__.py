"""Network modules, distributions and optimizer steps."""
