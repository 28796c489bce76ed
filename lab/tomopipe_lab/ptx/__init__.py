"""Kernels for GPUs run on the CPU as NVIDIA's compiler made them, with checks of each access.

The tests of tomopipe run the CUDA source as C++. Here it is compiled to PTX by NVRTC, as on a GPU;
what is found are accesses out of bounds, races between threads and shared memory that is read
before it is written, whether or not they change the result.
"""
