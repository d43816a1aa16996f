"""The functions that notebooks call and that the commands are built on."""
