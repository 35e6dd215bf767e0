"""Data sets: reading YOLO ones, and rendering the demo's."""
