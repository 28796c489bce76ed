// The machine on which translated PTX runs: registers, memory with checks, and threads as fibers.
//
// Each access is checked: it lies in one array and is aligned; what is read of shared memory was
// written in this block; and no two threads use the same byte, one of them writing, unless a barrier
// lies between them or both are atomic. A thread of another block is never in order with this one.
// The order in which threads run is random and has no influence on what is found.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <type_traits>
#include <ucontext.h>
#include <vector>

typedef uint64_t Bits;  // of a register of any type

// ---- registers and arithmetic ------------------------------------------------------------------

template <class T> T get(Bits bits) { T value; memcpy(&value, &bits, sizeof value); return value; }

template <class T> Bits put(T value)
{
    if (std::is_signed<T>::value && std::is_integral<T>::value) return (Bits)(int64_t)value;
    Bits bits = 0;
    memcpy(&bits, &value, sizeof value);
    return bits;
}

template <bool ftz> float flushed(float x)
{
    return ftz && std::fabs(x) < FLT_MIN ? std::copysign(0.0f, x) : x;
}
template <bool ftz, class T> T flushed(T x) { return x; }

// whole numbers wrap, as unsigned ones do
template <class T, bool is_whole = std::is_integral<T>::value> struct Wrapping { typedef T type; };
template <class T> struct Wrapping<T, true> { typedef typename std::make_unsigned<T>::type type; };
#define ARITHMETIC(name, sign)                                                                     \
    template <class T, bool ftz> T name(T a, T b)                                                  \
    {                                                                                              \
        typedef typename Wrapping<T>::type W;                                                      \
        return flushed<ftz>((T)((W)flushed<ftz>(a) sign (W)flushed<ftz>(b)));                      \
    }
ARITHMETIC(op_add, +)
ARITHMETIC(op_sub, -)
ARITHMETIC(op_mul, *)
template <class T, bool ftz> T op_mad(T a, T b, T c) { return op_add<T, ftz>(op_mul<T, ftz>(a, b), c); }
template <class T, bool ftz> T op_fma(T a, T b, T c)
{
    return flushed<ftz>(std::fma(flushed<ftz>(a), flushed<ftz>(b), flushed<ftz>(c)));
}
template <class T, bool> T op_div(T a, T b) { static_assert(std::is_integral<T>::value, ""); return a / b; }
template <class T, bool> T op_rem(T a, T b) { return a % b; }
template <class T, bool ftz> T op_neg(T a) { return flushed<ftz>((T)-a); }
template <class T, bool ftz> T op_abs(T a) { return flushed<ftz>((T)std::fabs(a)); }
// of a number and NaN the number
template <class T, bool ftz> T op_max(T a, T b) { return a != a || flushed<ftz>(a) < flushed<ftz>(b) ? b : a; }
template <class T, bool ftz> T op_min(T a, T b) { return a != a || flushed<ftz>(b) < flushed<ftz>(a) ? b : a; }
template <class T, bool> T op_and(T a, T b) { return a & b; }
template <class T, bool> T op_or(T a, T b) { return a | b; }
template <class T, bool> T op_xor(T a, T b) { return a ^ b; }
template <class T, bool> T op_not(T a) { return std::is_same<T, bool>::value ? !a : (T)~a; }
template <class T, bool> T op_shl(T a, uint32_t n) { return n < 8 * sizeof(T) ? (T)(a << n) : 0; }
template <class T, bool> T op_shr(T a, uint32_t n)
{
    return n < 8 * sizeof(T) ? (T)(a >> n) : (T)(a >> (8 * sizeof(T) - 1) >> 1);
}
template <class T> bool unordered(T a, T b) { return a != a || b != b; }

// ---- what is checked ---------------------------------------------------------------------------

struct Index { unsigned x, y, z; };

struct Byte {  // the last accesses of a byte; thread 0 is none
    uint32_t writer = 0, written_in = 0, reader = 0, read_in = 0;
    bool is_atomic = false;    // the last write
    bool has_others = false;   // other threads have read it since the same barrier
    bool is_shared = false;    // threads of several blocks have read it
    bool is_written = false;
};

struct Array { uint64_t first, size; std::vector<Byte> bytes; };

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(1 << 16);
    Index index;
    uint32_t number;
    bool has_ended;
};

static Index n_blocks, n_threads, block_index, thread_index;
static uint32_t thread, block, interval;  // of the running thread: numbers from 1; since which barrier
static std::vector<Array> arrays;
static std::vector<char> shared_values;
static std::vector<Byte> shared_bytes;
static char fault[400], nowhere[64];
static const char* instruction = "";
static std::vector<Fiber> fibers;
static Fiber* running;
static ucontext_t scheduler;

static void report(const char* what)
{
    if (*fault) return;  // the first one counts
    snprintf(fault, sizeof fault, "%s, block (%u, %u, %u), thread (%u, %u, %u): %s", what,
             block_index.x, block_index.y, block_index.z, thread_index.x, thread_index.y,
             thread_index.z, instruction);
}

// whether an access of a thread has ended before this one begins
static bool is_before(uint32_t other, uint32_t other_interval)
{
    const uint32_t per_block = n_threads.x * n_threads.y * n_threads.z;
    const bool same_block = other && (other - 1) / per_block + 1 == block;
    return !other || other == thread || (same_block && other_interval < interval);
}

static void note_read(Byte& byte)
{
    if (!is_before(byte.writer, byte.written_in)) report("race: read while another thread writes");
    if (!is_before(byte.reader, byte.read_in)) {
        const uint32_t per_block = n_threads.x * n_threads.y * n_threads.z;
        if ((byte.reader - 1) / per_block + 1 != block) byte.is_shared = true;
        else byte.has_others = true;
    } else if (byte.read_in < interval) byte.has_others = false;
    byte.reader = thread;
    byte.read_in = interval;
}

static void note_write(Byte& byte, bool is_atomic)
{
    if (!(is_atomic && byte.is_atomic) && !is_before(byte.writer, byte.written_in))
        report("race: two threads write");
    const bool is_read = byte.has_others && byte.read_in == interval;
    if (byte.is_shared || is_read || !is_before(byte.reader, byte.read_in))
        report("race: write while another thread reads");
    byte.writer = thread;
    byte.written_in = interval;
    byte.is_atomic = is_atomic;
    byte.is_written = true;
}

enum Kind { READ, WRITE, ATOMIC };

static void note(Byte* bytes, size_t n, Kind kind)
{
    for (size_t i = 0; i < n; ++i) {
        if (kind == READ) note_read(bytes[i]);
        else note_write(bytes[i], kind == ATOMIC);
    }
}

static char* global_memory(uint64_t address, size_t n, Kind kind)
{
    if (address % n) { report("misaligned in global memory"); return nowhere; }
    for (Array& array : arrays)
        if (address >= array.first && address + n <= array.first + array.size) {
            note(&array.bytes[address - array.first], n, kind);
            return (char*)address;
        }
    report(kind == READ ? "read outside of all arrays" : "write outside of all arrays");
    return nowhere;
}

static char* shared_memory(uint64_t address, size_t n, Kind kind)
{
    if (address % n) { report("misaligned in shared memory"); return nowhere; }
    if (address + n > shared_values.size()) { report("outside of shared memory"); return nowhere; }
    for (size_t i = 0; i < n && kind == READ; ++i)
        if (!shared_bytes[address + i].is_written) { report("shared memory is read before it is written"); break; }
    note(&shared_bytes[address], n, kind);
    return &shared_values[address];
}

template <class T> T load(const char* from) { T value; memcpy(&value, from, sizeof value); return value; }
template <class T> void store(char* to, T value) { memcpy(to, &value, sizeof value); }
template <class T> T add_at(char* to, T value)
{
    const T before = load<T>(to);
    store<T>(to, before + value);
    return before;
}

// ---- blocks and threads ------------------------------------------------------------------------

static void (*kernel)(void**);
static void** values;

static void wait_at_barrier() { swapcontext(&running->context, &scheduler); }

static void begin()
{
    kernel(values);
    running->has_ended = true;
    swapcontext(&running->context, &scheduler);
}

static void run_block(std::mt19937& random)
{
    const unsigned n = n_threads.x * n_threads.y * n_threads.z;
    std::vector<Fiber*> order;
    for (unsigned i = 0; i < n; ++i) {
        Fiber& fiber = fibers[i];
        fiber.has_ended = false;
        fiber.index = {i % n_threads.x, i / n_threads.x % n_threads.y, i / n_threads.x / n_threads.y};
        fiber.number = (block - 1) * n + i + 1;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, begin, 0);
        order.push_back(&fiber);
    }
    for (interval = 1; ; ++interval) {  // each thread runs to the next barrier, or to its end
        std::shuffle(order.begin(), order.end(), random);
        unsigned n_ended = 0;
        for (Fiber* fiber : order) {
            running = fiber;
            thread_index = fiber->index;
            thread = fiber->number;
            swapcontext(&scheduler, &fiber->context);
            n_ended += fiber->has_ended;
        }
        if (n_ended == n || *fault) return;
        if (n_ended) { instruction = ""; report("some threads of the block wait at a barrier, and others have ended"); return; }
    }
}

// Run a kernel; returns the first fault, or "".
static const char* run_kernel(void (*translated)(void**), Index blocks, Index threads, size_t n_shared,
                              unsigned seed, void** arguments, int n_arrays, const uint64_t* firsts,
                              const uint64_t* sizes)
{
    std::mt19937 random(seed);
    kernel = translated, values = arguments, n_blocks = blocks, n_threads = threads, *fault = 0;
    arrays.clear();
    for (int i = 0; i < n_arrays; ++i)
        arrays.push_back({firsts[i], sizes[i], std::vector<Byte>(sizes[i])});
    if (fibers.size() < (size_t)threads.x * threads.y * threads.z)
        fibers.resize((size_t)threads.x * threads.y * threads.z);
    const uint32_t n = blocks.x * blocks.y * blocks.z;
    std::vector<uint32_t> order(n);
    for (uint32_t i = 0; i < n; ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    for (uint32_t i : order) {
        block_index = {i % blocks.x, i / blocks.x % blocks.y, i / blocks.x / blocks.y};
        block = i + 1;
        shared_values.assign(n_shared, (char)0xff);
        shared_bytes.assign(n_shared, Byte());
        run_block(random);
        if (*fault) break;
    }
    return fault;
}
