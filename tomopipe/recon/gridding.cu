// The engine's stages on a GPU but the transforms; `tomopipe.recon.cuda` launches them and defines
// WIDTH, TILE, MARGIN and STRIPE. Complex numbers are float2. Slices lie innermost between
// `centre` and `fold`: a record of all slices is read and written at once.

#define SIDE (TILE + WIDTH - 1)

// Rows of some angles, padded with their edge values that fade; what is not finite counts as 0.
// A block for each angle and slice.
extern "C" __global__ void pad(
    const float* __restrict__ sinograms, const int* __restrict__ angles,
    const float* __restrict__ taper, float* __restrict__ padded,
    const int n_angles, const int n_cols, const int n_padded)
{
    const float* row = sinograms + ((long long)blockIdx.y * n_angles + angles[blockIdx.x]) * n_cols;
    float* out = padded + ((long long)blockIdx.y * gridDim.x + blockIdx.x) * n_padded;
    const int n_right = (n_padded - n_cols) / 2;
    for (int i = threadIdx.x; i < n_padded; i += blockDim.x) {
        const int beyond = i - n_cols;
        const float value = row[beyond < 0 ? i : beyond < n_right ? n_cols - 1 : 0];
        out[i] = isfinite(value) ? (beyond < 0 ? value : value * taper[beyond]) : 0.0f;
    }
}

// Spectra times the factor of bin and slice and the weight of the angle (its imaginary part
// negative to conjugate), transposed to records in the order of the grid's tiles.
// A block for each angle and STRIPE bins. With a pitch of 0 one slice serves all.
extern "C" __global__ void centre(
    const float2* __restrict__ spectra, const float2* __restrict__ factor,
    const float2* __restrict__ weights, const unsigned int* __restrict__ rank,
    float2* __restrict__ samples, const long long pitch, const int n_bins, const int n_slices)
{
    extern __shared__ float2 stripe[];
    const int angle = blockIdx.y, first = blockIdx.x * STRIPE;
    const float2 weight = weights[angle];
    for (int i = threadIdx.x; i < STRIPE * n_slices; i += blockDim.x) {
        const int slice = i / STRIPE, bin = first + i % STRIPE;
        if (bin < n_bins) {
            const float2 x = spectra[slice * pitch + (long long)angle * n_bins + bin];
            const float2 f = factor[slice * n_bins + bin];
            stripe[slice * (STRIPE + 1) + i % STRIPE] = make_float2(
                (x.x * f.x - x.y * f.y) * weight.x, (x.x * f.y + x.y * f.x) * weight.y);
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < STRIPE * n_slices; i += blockDim.x) {
        const int slice = i % n_slices, bin = first + i / n_slices;
        if (bin < n_bins) {
            const long long to = rank[angle * n_bins + bin];
            samples[to * n_slices + slice] = stripe[slice * (STRIPE + 1) + i / n_slices];
        }
    }
}

// Samples added to the half grids. A block for each run of samples of one tile, a thread for each
// float of a record: runs of samples that share their 5 x 5 cells are summed in registers, the
// tile's cells in shared memory, of which no two threads use the same, then added to the grid:
// atomically, as tiles overlap.
extern "C" __global__ void spread(
    const float* __restrict__ samples, const int* __restrict__ cells,
    const float* __restrict__ weights, const int* __restrict__ runs,
    float* grid, const int n_tile_cols, const int pitch)
{
    extern __shared__ float tile[];
    const int lane = threadIdx.x, record = blockDim.x;
    const int first = runs[blockIdx.x], last = runs[blockIdx.x + 1];
    for (int i = 0; i < SIDE * SIDE; ++i) tile[i * record + lane] = 0.0f;
    float sum[WIDTH * WIDTH], next = samples[(long long)first * record + lane];
    int at = -1;
    for (int i = first; i <= last; ++i) {
        const int here = i < last ? cells[i] % (TILE * TILE) : -1;
        const float value = next;  // the one after it is on its way meanwhile
        if (i + 1 < last) next = samples[(i + 1LL) * record + lane];
        if (here != at) {
            float* to = tile + (at / TILE * SIDE + at % TILE) * record + lane;
            #pragma unroll
            for (int tap = 0; tap < WIDTH * WIDTH; ++tap) {
                if (at >= 0) to[(tap / WIDTH * SIDE + tap % WIDTH) * record] += sum[tap];
                sum[tap] = 0.0f;
            }
            at = here;
        }
        if (i < last) {
            const float* w = weights + 2 * WIDTH * i;
            #pragma unroll
            for (int row = 0; row < WIDTH; ++row) {
                const float part = w[WIDTH + row] * value;
                #pragma unroll
                for (int col = 0; col < WIDTH; ++col) sum[WIDTH * row + col] += w[col] * part;
            }
        }
    }
    const int number = cells[first] / (TILE * TILE);
    const long long corner =
        number / n_tile_cols * TILE * (long long)pitch + number % n_tile_cols * TILE;
    for (int i = 0; i < SIDE * SIDE; ++i) {
        const float value = tile[i * record + lane];
        const long long to = corner + i / SIDE * (long long)pitch + i % SIDE;
        if (value != 0.0f) atomicAdd(grid + to * record + lane, value);
    }
}

// A cell of the half grids with those that lie in the margin to the left or to the right of it.
__device__ __forceinline__ float2 wrapped(
    const float2* __restrict__ grid, const int row, const int col, const int slice,
    const int n_grid, const int n_slices)
{
    const int pitch = n_grid + 2 * MARGIN;
    const long long at = (row + MARGIN) * (long long)pitch + col + MARGIN;
    float2 value = grid[at * n_slices + slice];
    if (col < MARGIN || col >= n_grid - MARGIN) {
        const float2 more = grid[(at + (col < MARGIN ? n_grid : -n_grid)) * n_slices + slice];
        value.x += more.x;
        value.y += more.y;
    }
    return value;
}

// Half grids with their margins folded in, and transposed to (slice, column, row): the half spectra of
// real images. A block for each column and STRIPE rows.
extern "C" __global__ void fold(
    const float2* __restrict__ grid, float2* __restrict__ half, const int n_grid,
    const int n_slices)
{
    extern __shared__ float2 stripe[];
    const int col = blockIdx.y, first = blockIdx.x * STRIPE, n_rows = n_grid / 2 + 1;
    for (int i = threadIdx.x; i < STRIPE * n_slices; i += blockDim.x) {
        const int slice = i % n_slices, row = first + i / n_slices;
        if (row < n_rows) {
            float2 value = wrapped(grid, row, col, slice, n_grid, n_slices);
            if (row <= MARGIN || row >= n_rows - 1 - MARGIN) {
                const int mirror = row <= MARGIN ? -row : n_grid - row;
                const int across = col ? n_grid - col : 0;
                const float2 more = wrapped(grid, mirror, across, slice, n_grid, n_slices);
                value.x += more.x;
                value.y -= more.y;
            }
            stripe[slice * (STRIPE + 1) + i / n_slices] = value;
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < STRIPE * n_slices; i += blockDim.x) {
        const int slice = i / STRIPE, row = first + i % STRIPE;
        if (row < n_rows)
            half[((long long)slice * n_grid + col) * n_rows + row] =
                stripe[slice * (STRIPE + 1) + i % STRIPE];
    }
}

// Images cut out of the transformed grids (slice, column, row), corrected along both axes.
// A block of STRIPE times some threads for each square of STRIPE pixels and each slice.
extern "C" __global__ void crop(
    const float* __restrict__ whole, const float* __restrict__ across,
    const float* __restrict__ down, float* __restrict__ images, const int n_grid, const int n_cols)
{
    extern __shared__ float square[];
    const int left = blockIdx.x * STRIPE, top = blockIdx.y * STRIPE;
    for (int i = threadIdx.y; i < STRIPE; i += blockDim.y) {
        const int x = left + i, y = top + threadIdx.x;
        if (x < n_cols && y < n_cols) {
            const int col = (x - n_cols / 2 + n_grid) % n_grid;
            const int row = (y - (n_cols / 2 - 1) + n_grid) % n_grid;
            square[threadIdx.x * (STRIPE + 1) + i] =
                whole[((long long)blockIdx.z * n_grid + col) * n_grid + row];
        }
    }
    __syncthreads();
    for (int i = threadIdx.y; i < STRIPE; i += blockDim.y) {
        const int x = left + threadIdx.x, y = top + i;
        if (x < n_cols && y < n_cols)
            images[((long long)blockIdx.z * n_cols + y) * n_cols + x] =
                square[i * (STRIPE + 1) + threadIdx.x] * across[x] * down[y];
    }
}
