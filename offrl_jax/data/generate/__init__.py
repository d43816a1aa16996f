"""Data that are generated: by controllers in mazes, by trained policies of discrete actions."""
