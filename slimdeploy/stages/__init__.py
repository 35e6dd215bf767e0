"""One stage a file: each reads files, writes one new folder, and never edits what it read."""
