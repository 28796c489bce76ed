// Flat, dark and logarithm of raw frames (frame, row, column) in one pass, transposed to (row, frame,
// column). Defined before: RAW, the type of raw values, and WIDE, what they are subtracted in.
// The gain of a dead pixel is 0, and `nearest` the valid column of its row next to it; of any other
// it is its own column, and below 0 in a row without a valid one, which takes `empty`. A value that
// is not finite takes the nearest one that is, of a valid pixel, the left one of two.
// With a least value above 0 the logarithm is taken.
__device__ __forceinline__ float corrected(const RAW raw, const float dark, const float gain)
{
    return (float)((WIDE)raw - dark) * gain;
}

extern "C" __global__ void transmission(
    const RAW* __restrict__ raw, const float* __restrict__ dark, const float* __restrict__ gain,
    const int* __restrict__ nearest, float* __restrict__ out, const int n_rows, const int n_cols,
    const float empty, const float least)
{
    const int frame = blockIdx.x, row = blockIdx.y;
    const RAW* from = raw + ((long long)frame * n_rows + row) * n_cols;
    dark += row * n_cols;
    gain += row * n_cols;
    nearest += row * n_cols;
    float* to = out + ((long long)row * gridDim.x + frame) * n_cols;
    for (int i = threadIdx.x; i < n_cols; i += blockDim.x) {
        const int k = nearest[i];
        float value = k < 0 ? empty : corrected(from[k], dark[k], gain[k]);
        for (int far = 2; !isfinite(value); ++far) {  // left and right in turn
            const int col = far & 1 ? i + far / 2 : i - far / 2;
            if (far / 2 >= n_cols) value = empty;
            else if (col >= 0 && col < n_cols && gain[col] > 0.0f)
                value = corrected(from[col], dark[col], gain[col]);
        }
        to[i] = least > 0.0f ? -logf(fmaxf(value, least)) : value;
    }
}
