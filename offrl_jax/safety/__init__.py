"""Safe exploration: learning with a bounded chance of accidents while it learns."""
