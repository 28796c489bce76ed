"""The reconstruction engine: arrays in, arrays out.

Fourier-gridding filtered back-projection of parallel beams (`fbp`, `plan`), with iterative methods
beside it (`iterative`), on the CPU (`compiled`) and the GPU (`cuda`, `portable`).

Geometry. A slice is `[y, x]` of N x N voxels, N the number of detector columns; at the angle theta,
radians, voxel (x, y) is seen at detector column::

    u(x, y) = cor + (x - N//2) cos(theta) - (y - (N//2 - 1)) sin(theta)

so the axis goes through voxel (N//2, N//2 - 1), for odd N, too. Columns and voxels are counted from
0, whole numbers are their centres, and `cor` is a column of the whole, unbinned detector. Values
are linear attenuation per unbinned pixel: a disk of value mu comes out at mu.

The same slice in the conventions of others, with the same angles:

TomoPy
    ``recon(..., center=cor, algorithm="gridrec")`` has this axis and these columns.
ASTRA
    The axis is at ((N - 1)/2, (N - 1)/2), the middle of the slice, and of the detector until
    ``geom_postalignment(geometry, (N - 1)/2 - cor)``. A voxel is seen at
    ``cor + (x - (N - 1)/2) cos(theta) - (y - (N - 1)/2) sin(theta)``; so its slice is ours moved by
    ((N - 1)/2 - N//2, (N - 1)/2 - (N//2 - 1)) voxels: (-1/2, 1/2) for even N, (0, 1) for odd N.

docs/reference/conventions.md has these and further programs; lab/benchmarks compares the slices.
"""
