// SPDX-License-Identifier: Apache-2.0
#include "fibers.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <vector>

uint3 threadIdx, blockIdx, blockDim, gridDim;
uint8_t *emulated_dynamic;

extern "C" uint8_t __start_emulated_shared[], __stop_emulated_shared[];
/* Puts the registers that a call keeps on this stack, and takes those of another. */
extern "C" void emulated_switch(void **save, void *load);
asm(R"(
.text
.globl emulated_switch
.type emulated_switch, @function
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulated_switch, .-emulated_switch
)");

namespace
{

enum { STACK_BYTES = 256 << 10, POISON = 0xcb };

struct copy {
    uint32_t to, bytes;
    const void *from;
    bool valid, done;
};

struct fiber {
    void *stack_pointer;
    bool ended;
    const char *waits; /* at which operation; NULL: it can run */
    unsigned meetings; /* of its warp so far */
    std::vector<std::vector<copy>> groups;
    std::vector<copy> open_group;
};

struct warp {
    int arrived;
    emulated_slot slots[2][32];
};

fiber fibers[EMULATED_MAX_THREADS];
warp warps[EMULATED_MAX_THREADS / 32];
char *stacks;
void *scheduler_stack;
int current = -1;
const emulated_kernel *running;
void **running_parameters;
int at_barrier, alive;
uint64_t random_state;
size_t dynamic_capacity;
uint64_t yields; /* of this block */

uint64_t draw()
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * UINT64_C(2685821657736338717) >> 11;
}

void leave()
{
    emulated_switch(&fibers[current].stack_pointer, scheduler_stack);
}

void resume(int thread)
{
    current = thread;
    threadIdx = {unsigned(thread), 0, 0};
    emulated_switch(&scheduler_stack, fibers[thread].stack_pointer);
    current = -1;
}

void release_barrier()
{
    if (at_barrier != alive || alive == 0)
        return;
    for (unsigned i = 0; i < blockDim.x; i++)
        if (!fibers[i].ended)
            fibers[i].waits = nullptr;
    at_barrier = 0;
}

void begin()
{
    running->call(running_parameters);
    fibers[current].ended = true;
    alive--;
    release_barrier();
    leave();
    abort();
}

void start(int thread)
{
    fiber &f = fibers[thread];
    void **top = reinterpret_cast<void **>(stacks + size_t(thread + 1) * STACK_BYTES);
    *--top = nullptr; /* what begin would return to; keeps its frame 16-byte aligned */
    *--top = reinterpret_cast<void *>(begin);
    top -= 6; /* registers of emulated_switch */
    memset(static_cast<void *>(top), 0, 6 * sizeof *top);
    f.stack_pointer = top;
    f.ended = false;
    f.waits = nullptr;
    f.meetings = 0;
    f.groups.clear();
    f.open_group.clear();
}

void complete(copy &c)
{
    if (c.done)
        return;
    uint8_t *to = emulated_dynamic + c.to;
    if (c.valid)
        memcpy(to, c.from, c.bytes);
    else
        memset(to, 0, c.bytes);
    c.done = true;
}

/* Lets every warp run, in changing order, until all threads have ended. */
void schedule()
{
    int warp_count = int(blockDim.x / 32);
    while (alive) {
        bool ran = false;
        int first = int(draw() % uint64_t(warp_count));
        for (int i = 0; i < warp_count; i++) {
            int w = (first + i) % warp_count;
            if (draw() % 4 == 0 && i + 1 < warp_count)
                continue; /* it lags behind */
            int turn = int(draw() % 32);
            for (int lane = 0; lane < 32; lane++) {
                int thread = w * 32 + (lane ^ turn);
                if (fibers[thread].ended || fibers[thread].waits)
                    continue;
                resume(thread);
                ran = true;
            }
        }
        if (ran)
            continue;
        for (unsigned i = 0; i < blockDim.x; i++)
            if (!fibers[i].ended && !fibers[i].waits)
                ran = true;
        if (ran)
            continue;
        for (unsigned i = 0; i < blockDim.x; i += 31)
            fprintf(stderr, "emulator: thread %u %s%s\n", i,
                    fibers[i].ended ? "has ended" : "waits at ",
                    fibers[i].ended ? "" : fibers[i].waits);
        emulated_die("no thread of the block can go on");
    }
}

void run_block()
{
    static_assert(STACK_BYTES % 4096 == 0, "whole pages");
    memset(__start_emulated_shared, POISON,
           size_t(__stop_emulated_shared - __start_emulated_shared));
    memset(emulated_dynamic, POISON, dynamic_capacity);
    memset(static_cast<void *>(warps), 0, sizeof warps);
    at_barrier = 0;
    yields = 0;
    alive = int(blockDim.x);
    for (unsigned i = 0; i < blockDim.x; i++)
        start(int(i));
    schedule();
}

} // namespace

void emulated_die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "emulator: %s, block %u %u %u, thread %d: ", running ? running->name : "?",
            blockIdx.x, blockIdx.y, blockIdx.z, current);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    abort();
}

void emulated_full(unsigned mask, const char *operation)
{
    if (mask != 0xffffffffu)
        emulated_die("%s of part of a warp is not emulated", operation);
}

void emulated_check_aligned(const void *at, size_t bytes, const char *operation)
{
    emulated_die("%s of %zu bytes at %p, which is not a multiple of them", operation, bytes, at);
}

const emulated_slot *emulated_meet(const char *operation, const void *mine, size_t bytes)
{
    fiber &f = fibers[current];
    warp &w = warps[current / 32];
    emulated_slot *slots = w.slots[f.meetings++ % 2];
    for (int i = current / 32 * 32; i < current / 32 * 32 + 32; i++)
        if (fibers[i].ended ||
            (fibers[i].waits && fibers[i].meetings == f.meetings && fibers[i].waits != operation &&
             strcmp(fibers[i].waits, operation) != 0))
            emulated_die("%s, while lane %d %s%s", operation, i % 32,
                         fibers[i].ended ? "has ended" : "is at ",
                         fibers[i].ended ? "" : fibers[i].waits);
    if (bytes)
        memcpy(slots[current % 32].bytes, mine, bytes);
    if (++w.arrived < 32) {
        f.waits = operation;
        leave();
    } else {
        w.arrived = 0;
        for (int i = current / 32 * 32; i < current / 32 * 32 + 32; i++)
            fibers[i].waits = nullptr;
    }
    return slots;
}

void emulated_barrier()
{
    fibers[current].waits = "__syncthreads";
    at_barrier++;
    release_barrier();
    if (fibers[current].waits)
        leave();
}

void emulated_yield()
{
    if (++yields > UINT64_C(200000) * blockDim.x)
        emulated_die("a loop waits for what does not come");
    leave();
}

void emulated_copy_async(uint32_t to, const void *from, unsigned bytes, bool valid)
{
    if (to % bytes || reinterpret_cast<uintptr_t>(from) % bytes)
        emulated_die("cp.async of %u bytes from %p to %u", bytes, from, to);
    if (to + bytes > dynamic_capacity)
        emulated_die("cp.async to byte %u of %zu of shared memory", to, dynamic_capacity);
    copy c = {to, bytes, from, valid, false};
    if (draw() % 2)
        complete(c);
    fibers[current].open_group.push_back(c);
}

void emulated_copy_commit()
{
    fiber &f = fibers[current];
    f.groups.push_back(std::move(f.open_group));
    f.open_group.clear();
}

void emulated_copy_wait(int pending)
{
    fiber &f = fibers[current];
    while (int(f.groups.size()) > pending) {
        for (copy &c : f.groups.front())
            complete(c);
        f.groups.erase(f.groups.begin());
    }
}

void emulated_run(const emulated_kernel *kernel, const unsigned grid[3], unsigned threads,
                  size_t dynamic_bytes, void **parameters, uint64_t seed)
{
    running = kernel;
    running_parameters = parameters;
    random_state = seed * 2 + 1;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {threads, 1, 1};
    if (threads % 32 || threads > EMULATED_MAX_THREADS)
        emulated_die("%u threads a block are not emulated", threads);
    if (!stacks) {
        void *at = mmap(nullptr, size_t(EMULATED_MAX_THREADS) * STACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED)
            emulated_die("no memory for stacks");
        stacks = static_cast<char *>(at);
    }
    free(emulated_dynamic);
    dynamic_capacity = dynamic_bytes;
    emulated_dynamic =
        static_cast<uint8_t *>(aligned_alloc(1024, (dynamic_bytes + 2047) / 1024 * 1024));
    uint64_t blocks = uint64_t(grid[0]) * grid[1] * grid[2];
    uint64_t first = draw() % blocks, step = draw() % 2 ? 1 : blocks - 1;
    for (uint64_t i = 0, at = first; i < blocks; i++, at = (at + step) % blocks) {
        blockIdx = {unsigned(at % grid[0]), unsigned(at / grid[0] % grid[1]),
                    unsigned(at / grid[0] / grid[1])};
        run_block();
    }
}
