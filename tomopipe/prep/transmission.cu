// Flat, dark and logarithm of raw frames (frame, row, column) in one pass, transposed to (row, frame,
// column). Defined before: RAW, the type of raw values, and WIDE, what they are subtracted in.
// `bad` is set where a value is not finite. With a least value above 0 the logarithm is taken.
extern "C" __global__ void transmission(
    const RAW* __restrict__ raw, const float* __restrict__ dark, const float* __restrict__ gain,
    float* __restrict__ out, int* bad, const int n_rows, const int n_cols, const float least)
{
    const int frame = blockIdx.x, row = blockIdx.y;
    const int pixels = row * n_cols;
    const RAW* from = raw + ((long long)frame * n_rows + row) * n_cols;
    float* to = out + ((long long)row * gridDim.x + frame) * n_cols;
    for (int i = threadIdx.x; i < n_cols; i += blockDim.x) {
        const float value = (float)((WIDE)from[i] - dark[pixels + i]) * gain[pixels + i];
        if (!isfinite(value)) *bad = 1;
        to[i] = least > 0.0f ? -logf(fmaxf(value, least)) : value;
    }
}
