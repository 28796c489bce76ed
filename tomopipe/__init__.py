"""tomopipe: centre of rotation and reconstruction of whole tomography campaigns."""

__version__ = "0.1.0"
