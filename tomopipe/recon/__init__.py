"""The reconstruction engine: arrays in, arrays out.

Fourier-gridding filtered backprojection. Geometry (see `tomopipe.recon.plan`): voxel (x, y) of a
slice is projected to detector column ``cor + (x - N//2) cos(theta) - (y - (N//2 - 1)) sin(theta)``,
N the number of columns; values are linear attenuation per unbinned pixel.
"""
