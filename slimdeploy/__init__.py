"""slimdeploy: make a YOLOv8 detector physically smaller, measure it, and ship it to the board that flies."""

__version__ = "0.1.0"
