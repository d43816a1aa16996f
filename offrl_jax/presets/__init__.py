"""Presets by algorithm, one module each, keyed by the domain of the evaluation environment."""
