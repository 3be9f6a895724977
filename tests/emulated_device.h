// Enough of CUDA to run its kernels on a CPU, block by block, so that their arithmetic is tested
// where there is no device. Each thread of a block is a fibre; all are resumed in turn, round by
// round. A barrier waits for rounds until all have come; a shuffle takes one round to write and one
// to read, which is right where a warp's lanes take the same steps, as they must on the device.
#include <immintrin.h>
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstring>
#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
using std::max;
using std::min;

struct Dimensions { unsigned x, y; };
static Dimensions threadIdx, blockIdx, blockDim, gridDim;
static char dynamic[48 * 1024];
#define shared reinterpret_cast<float*>(dynamic)

static float half_to_float(unsigned short bits) { return _cvtsh_ss(bits); }
static unsigned short float_to_half(float value) { return _cvtss_sh(value, 0); }
static unsigned __float_as_uint(float value) { unsigned b; memcpy(&b, &value, 4); return b; }
static float __uint_as_float(unsigned bits) { float v; memcpy(&v, &bits, 4); return v; }

struct Fibre { ucontext_t context; jmp_buf here; std::vector<char> stack; bool begun, ended; };
static std::vector<Fibre> fibres;
static jmp_buf rounds;
static ucontext_t main_context;
static unsigned current, waiting, running, passed;
static float exchanged[1024];

static void rest() {
    const unsigned mine = current;
    if (!_setjmp(fibres[mine].here)) _longjmp(rounds, 1);
    threadIdx.x = mine;
}

static void __syncthreads() {
    const unsigned before = passed;
    waiting++;
    while (passed == before) rest();
}

static float __shfl_xor_sync(unsigned, float value, int apart) {
    exchanged[threadIdx.x] = value;
    rest();
    const float other = exchanged[threadIdx.x ^ apart];
    rest();
    return other;
}

static void (*work)(void*);
static void* work_of;

static void fibre() {
    work(work_of);
    fibres[current].ended = true;
    running--;
    _longjmp(rounds, 1);
}

static void resume(unsigned thread) {
    Fibre& it = fibres[thread];
    current = threadIdx.x = thread;
    if (_setjmp(rounds)) return;
    if (it.begun) _longjmp(it.here, 1);
    it.begun = true;
    swapcontext(&main_context, &it.context);
}

static void run_block() {
    for (auto& it : fibres) {
        getcontext(&it.context);
        it.stack.resize(64 * 1024);
        it.context.uc_stack.ss_sp = it.stack.data();
        it.context.uc_stack.ss_size = it.stack.size();
        it.context.uc_link = nullptr;
        makecontext(&it.context, fibre, 0);
        it.begun = it.ended = false;
    }
    waiting = 0;
    running = fibres.size();
    while (running) {
        for (unsigned i = 0; i < fibres.size(); i++)
            if (!fibres[i].ended) resume(i);
        if (waiting == running) passed++, waiting = 0;
    }
}

template <class... A>
struct Call {
    void (*kernel)(A...);
    std::tuple<A...> arguments;
    static void run(void* self) {
        auto* call = static_cast<Call*>(self);
        std::apply(call->kernel, call->arguments);
    }
};

template <class... A, size_t... I>
static void run(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    Call<A...> call{kernel, {*static_cast<A*>(arguments[I])...}};
    work = Call<A...>::run;
    work_of = &call;
    for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
        for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) run_block();
}

template <class... A>
static void launch(void (*kernel)(A...), unsigned x, unsigned y, unsigned threads, void** arguments) {
    gridDim = {x, y};
    blockDim = {threads, 1};
    fibres.resize(threads);
    run(kernel, arguments, std::index_sequence_for<A...>{});
}

#define LAUNCH(kernel)                                                                         \
    extern "C" void launch_##kernel(unsigned x, unsigned y, unsigned threads, void** arguments) { \
        launch(kernel, x, y, threads, arguments);                                              \
    }
