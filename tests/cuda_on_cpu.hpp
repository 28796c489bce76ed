// What CUDA source needs to be compiled as C++ and run by one thread of the host, in front of it.
//
// The threads of a block are fibers: each runs until it waits at a barrier or ends, then the next
// one, forwards or backwards; so do the blocks. Shared memory begins as NaN.
#undef _FORTIFY_SOURCE
#include <cmath>
#include <csetjmp>
#include <cstring>
#include <tuple>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__ static
#define __forceinline__ inline
#define __restrict__ __restrict
using std::isfinite;

struct dim3 { unsigned x, y, z; };
struct alignas(8) float2 { float x, y; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static dim3 gridDim, blockDim, blockIdx, threadIdx;
alignas(16) static char shared_memory[1 << 20];

template <class T> static T atomicAdd(T* to, T value) { T old = *to; *to += value; return old; }

namespace on_cpu {

struct Fiber {
    std::vector<char> stack = std::vector<char>(1 << 14);
    ucontext_t context;
    jmp_buf where;
    bool begun = false, ended = false;
};
static std::vector<Fiber> fibers;
static Fiber* running;
static jmp_buf scheduler;
static void (*body)(void*);
static void* arguments;

static void pause() { if (!_setjmp(running->where)) _longjmp(scheduler, 1); }

static void live() {
    for (;;) {
        body(arguments);
        running->ended = true;
        pause();
    }
}

static void resume(Fiber& fiber) {
    running = &fiber;
    if (_setjmp(scheduler)) return;
    if (fiber.begun) _longjmp(fiber.where, 1);
    fiber.begun = true;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    makecontext(&fiber.context, live, 0);
    setcontext(&fiber.context);
}

static unsigned turned(unsigned i, unsigned n, int backwards) { return backwards ? n - 1 - i : i; }

static dim3 unravelled(unsigned i, dim3 n) { return {i % n.x, i / n.x % n.y, i / n.x / n.y}; }

// Return how many threads of a block went on alone where others wait at a barrier, else 0.
static int run_block(unsigned n_threads, int backwards) {
    for (auto& fiber : fibers) fiber.ended = false;
    for (unsigned n_ended = 0; n_ended < n_threads;) {
        n_ended = 0;
        for (unsigned i = 0; i < n_threads; ++i) {
            const unsigned t = turned(i, n_threads, backwards);
            threadIdx = unravelled(t, blockDim);
            resume(fibers[t]);
            n_ended += fibers[t].ended;
        }
        if (n_ended && n_ended < n_threads) return n_ended;
    }
    return 0;
}

static int run(dim3 grid, dim3 block, size_t n_shared, int backwards, bool has_barrier) {
    gridDim = grid, blockDim = block;
    const unsigned n_blocks = grid.x * grid.y * grid.z, n_threads = block.x * block.y * block.z;
    fibers = std::vector<Fiber>(has_barrier ? n_threads : 0);
    int alone = 0;
    for (unsigned i = 0; i < n_blocks && !alone; ++i) {
        blockIdx = unravelled(turned(i, n_blocks, backwards), grid);
        std::memset(shared_memory, 0xff, n_shared);
        if (has_barrier) {
            alone = run_block(n_threads, backwards);
            continue;
        }
        for (unsigned j = 0; j < n_threads; ++j) {
            threadIdx = unravelled(turned(j, n_threads, backwards), block);
            body(arguments);
        }
    }
    return alone;
}

template <class... A, size_t... I>
static void call(void (*kernel)(A...), void** values, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_const_t<A>*>(values[I])...);
}

template <auto kernel, class... A>
static void call_with(void (*)(A...), void* values) {
    call(kernel, static_cast<void**>(values), std::index_sequence_for<A...>());
}

}  // namespace on_cpu

static void __syncthreads() { on_cpu::pause(); }

#define RUNNER(kernel, has_barrier)                                                             \
    extern "C" int run_##kernel(                                                                \
        dim3 grid, dim3 block, size_t n_shared, int backwards, void** values) {                 \
        on_cpu::body = [](void* all) { on_cpu::call_with<kernel>(kernel, all); };               \
        on_cpu::arguments = values;                                                             \
        return on_cpu::run(grid, block, n_shared, backwards, has_barrier);                      \
    }
