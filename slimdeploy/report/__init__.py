"""A comparison of models as terminal text, Markdown, JSON and one self-contained page; knows no torch."""
