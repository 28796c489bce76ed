"""The errors by which NumPy, CuPy and the libraries of CUDA say that memory ran out."""

from tests.pretend_cupy import CUDADriverError, CUDARuntimeError, CuFFTError, OutOfMemoryError


def errors(number=2):
    """Return an error of each kind; of those with a number only 2 says that memory ran out."""
    return {
        "runtime": CUDARuntimeError(number, f"cudaError {number}"),
        "driver": CUDADriverError(number, f"CUDA_ERROR {number}"),
        "transform": CuFFTError(number, f"CUFFT {number}"),
    }


OUT_OF_MEMORY = {"host": MemoryError(), "pool": OutOfMemoryError(), **errors()}


class Room:
    """Raises an error where more than `most` slices are made at a time; notes how many were."""

    def __init__(self, error, most):
        self.error, self.most, self.sizes = error, most, []

    def check(self, n):
        self.sizes.append(n)
        if n > self.most:
            raise self.error

    def limit(self, monkeypatch, place, name, n_of):
        """Let a function raise first, by the number of slices of its arguments."""
        function = getattr(place, name)

        def call(*args, **kwargs):
            self.check(n_of(*args))
            return function(*args, **kwargs)

        monkeypatch.setattr(place, name, call)
