"""What runs on the board, out of the bundle: Python 3.8 and later, the standard library and numpy, OpenCV where it is.

This room imports nothing else of slimdeploy, since it travels alone, as `agent.pyz`.
"""
