"""Scripted controllers that collect data."""
