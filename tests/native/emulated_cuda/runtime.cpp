// Runs the threads of a block in turns: each until it waits for others or returns, then the next that has not returned.
//
// A thread's context is entered for the first time by setcontext, and from then on by jumps, which need no system call:
// it serves every block of every launch, as most of the emulation's time would go into new ones.
// Sanitizers are told of every switch, and the thread sanitizer of every barrier: to it, the threads of a block are
// threads, which nothing but barriers orders. This file itself must be compiled without it.
#include <cuda_runtime.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <vector>

#if SEGP_SANITIZED_ADDRESS
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#elif SEGP_SANITIZED_THREAD
#include <sanitizer/tsan_interface.h>
#endif

namespace emulated_cuda {
namespace {

constexpr size_t kStack = 160 * 1024;
constexpr size_t kStagger = 7 * 64;  // bytes between the tops of stacks: not all in the same lines of the cache

#if SEGP_SANITIZED_THREAD
void happens_before(void* what) { __tsan_release(what); }
void happens_after(void* what) { __tsan_acquire(what); }
#else
void happens_before(void*) {}
void happens_after(void*) {}
#endif

[[noreturn]] void give_up(const char* complaint, Site first, Site second) {
  std::fprintf(stderr, "emulated CUDA: block %u, thread %u: %s: %s:%d and %s:%d\n", blockIdx.x, threadIdx.x, complaint,
               first.file, first.line, second.file, second.line);
  std::abort();
}

struct Barrier {
  unsigned expected = 0;
  unsigned arrived = 0;
  unsigned generation = 0;
  Site site;
  // What the thread sanitizer knows generations by, in turns: who goes on late has not seen what others did since.
  int64_t order[2] = {};

  void release_if_complete() {
    if (expected > 0 && arrived == expected) {
      arrived = 0;
      ++generation;
    }
  }
};

// A stack and a place on it; the scheduler's is the process's own.
struct Context {
  ucontext_t context;
  void* place[5] = {};  // __builtin_setjmp's
  bool has_begun = false;
  const void* stack = nullptr;
  size_t stack_size = 0;
  void* fake_stack = nullptr;  // the address sanitizer's
  void* fiber = nullptr;       // the thread sanitizer's
};

struct Thread : Context {
  std::vector<char> memory = std::vector<char>(kStack);
  bool has_returned = false;
};

struct Block {
  std::vector<Thread> threads;
  Barrier whole;
  std::vector<Barrier> warps;
  std::vector<unsigned char> slots;
  unsigned running = 0;  // threads that have not returned
  Context scheduler;
  // What the thread sanitizer knows them by: a thread that begins has not seen others return.
  int64_t start = 0;
  int64_t end = 0;
  const std::function<void()>* body = nullptr;
};

Block block;

struct Launched {
  std::set<const void*> kernels;

  ~Launched() {
    if (const char* path = std::getenv("EMULATED_CUDA_LAUNCHED")) {
      std::ofstream file(path);
      for (const void* kernel : kernels) {
        file << kernel << '\n';
      }
    }
  }
};

Launched launched;
std::set<cudaStream_t> streams;
cudaError_t next_status = [] {
  const char* given = std::getenv("EMULATED_CUDA_STATUS");
  return given == nullptr ? cudaSuccess : std::atoi(given);
}();

#if !SEGP_SANITIZED_ADDRESS
[[noreturn, gnu::noinline]] void go_to(Context& to) {
  if (to.has_begun) {
    __builtin_longjmp(to.place, 1);
  }
  to.has_begun = true;
  setcontext(&to.context);
  std::abort();
}
#endif

// Leaves one context and goes on in the other.
[[gnu::noinline]] void switch_to(Context& from, Context& to) {
#if SEGP_SANITIZED_ADDRESS
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_size);
  swapcontext(&from.context, &to.context);
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#else
#if SEGP_SANITIZED_THREAD
  __tsan_switch_to_fiber(to.fiber, __tsan_switch_to_fiber_no_sync);
#endif
  if (__builtin_setjmp(from.place) == 0) {
    go_to(to);
  }
#endif
}

// Goes on in the next thread of the block that has not returned; in the scheduler, if all have.
void switch_to_next(unsigned self) {
  if (block.running == 0) {
    switch_to(block.threads[self], block.scheduler);
    return;
  }
  unsigned next = self;
  do {
    next = next + 1 == blockDim.x ? 0 : next + 1;
  } while (block.threads[next].has_returned);
  if (next != self) {
    threadIdx.x = next;
    switch_to(block.threads[self], block.threads[next]);
  }
}

void meet(Barrier& barrier, Site site) {
  const unsigned self = threadIdx.x;
  const unsigned before = barrier.generation;
  if (barrier.arrived > 0 && (site.line != barrier.site.line || site.file != barrier.site.file)) {
    give_up("threads wait at different places", barrier.site, site);
  }
  barrier.site = site;
  ++barrier.arrived;
  happens_before(&barrier.order[before % 2]);
  barrier.release_if_complete();
  while (barrier.generation == before) {
    switch_to_next(self);
  }
  happens_after(&barrier.order[before % 2]);
}

void drop(Barrier& barrier) {
  --barrier.expected;
  barrier.release_if_complete();
}

void thread_main() {
#if SEGP_SANITIZED_ADDRESS
  const void* stack = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &size);
  if (block.scheduler.stack == nullptr) {  // the very first thread, which the scheduler has started
    block.scheduler.stack = stack;
    block.scheduler.stack_size = size;
  }
#endif
  for (;;) {
    happens_after(&block.start);
    (*block.body)();
    happens_before(&block.end);
    const unsigned self = threadIdx.x;
    block.threads[self].has_returned = true;
    --block.running;
    drop(block.whole);
    drop(block.warps[self / kWarp]);
    switch_to_next(self);
  }
}

void prepare(Thread& thread, size_t number) {
  thread.stack = thread.memory.data();
  thread.stack_size = kStack - number % 64 * kStagger;
  getcontext(&thread.context);
  thread.context.uc_stack.ss_sp = thread.memory.data();
  thread.context.uc_stack.ss_size = thread.stack_size;
  thread.context.uc_link = nullptr;
  makecontext(&thread.context, &thread_main, 0);
#if SEGP_SANITIZED_THREAD
  thread.fiber = __tsan_create_fiber(0);
#endif
}

}  // namespace

int64_t small_work() {
  static const char* const given = std::getenv("EMULATED_CUDA_SMALL_WORK");
  return given == nullptr ? 1 << 24 : std::atoll(given);
}

void take_part(void* begin, void* end, void* next) {
#if SEGP_SANITIZED_ADDRESS
  const auto bytes = [](void* from, void* to) {
    return static_cast<size_t>(static_cast<char*>(to) - static_cast<char*>(from));
  };
  __asan_unpoison_memory_region(begin, bytes(begin, end));
  __asan_poison_memory_region(end, bytes(end, next));
#else
  (void)begin, (void)end, (void)next;
#endif
}

void meet_block(Site site) { meet(block.whole, site); }

void meet_warp(Site site) {
  Barrier& warp = block.warps[threadIdx.x / kWarp];
  if (warp.expected != kWarp) {
    give_up("a shuffle names lanes that have returned", site, site);
  }
  meet(warp, site);
}

// A warp has two sets of slots, and uses them in turns: what one shuffle has left is read before the next one but one.
unsigned char* slot(unsigned lane) {
  const unsigned warp = threadIdx.x / kWarp;
  return &block.slots[((warp * 2 + block.warps[warp].generation % 2) * kWarp + lane) * 16];
}

std::set<cudaStream_t> streams_used() {
  std::set<cudaStream_t> used;
  used.swap(streams);
  return used;
}

void fail_next(cudaError_t status) { next_status = status; }

void launch(const void* kernel, unsigned blocks, unsigned threads, cudaStream_t stream,
            const std::function<void()>& body) {
  static const char* const order = std::getenv("EMULATED_CUDA_ORDER");
  const bool backward = order != nullptr && std::strcmp(order, "backward") == 0;
  launched.kernels.insert(kernel);
  streams.insert(stream);
  if (block.threads.size() < threads) {
    block.threads = std::vector<Thread>(threads);
    for (unsigned t = 0; t < threads; ++t) {
      prepare(block.threads[t], t);
    }
  }
  block.slots.assign(threads * 2 * 16, 0);
  block.body = &body;
  block.scheduler.has_begun = true;
#if SEGP_SANITIZED_THREAD
  block.scheduler.fiber = __tsan_get_current_fiber();
#endif
  blockDim.x = threads;
  gridDim.x = blocks;
  for (unsigned b = 0; b < blocks; ++b) {
    blockIdx.x = backward ? blocks - 1 - b : b;
    block.whole = Barrier{threads, 0, 0, {}, {}};
    block.warps.assign(threads / kWarp, Barrier{kWarp, 0, 0, {}, {}});
    for (unsigned t = 0; t < threads; ++t) {
      block.threads[t].has_returned = false;
    }
    block.running = threads;
    happens_before(&block.start);
    threadIdx.x = 0;
    switch_to(block.scheduler, block.threads[0]);
    happens_after(&block.end);
  }
}

}  // namespace emulated_cuda

cudaError_t cudaGetLastError() {
  const cudaError_t status = emulated_cuda::next_status;
  emulated_cuda::next_status = cudaSuccess;
  return status;
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  emulated_cuda::streams.insert(stream);
  std::memset(memory, value, bytes);
  return cudaSuccess;
}
