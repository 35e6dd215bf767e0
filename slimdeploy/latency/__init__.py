"""Milliseconds by layer: tables measured on a target, and the board model for boards that are not at hand."""
