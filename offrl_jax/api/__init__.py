"""The functions that notebooks call and commands are made of."""
