"""The folder that goes to a board: a model, how to feed it, and a hash of every file."""

from slimdeploy.bundle.pack import verify

__all__ = ["verify"]
