"""What runs on the board: Python 3.8 and the standard library, so that a bundle can carry it."""
