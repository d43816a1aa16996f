"""Data larger than the device's memory: shards on disk, batches gathered ahead."""
