// Runs the threads of a block in turns: each until it waits for others, then the next.
//
// A context is entered for the first time by swapcontext, and from then on by jumps, which need no system call.
#include <cuda_runtime.h>
#include <setjmp.h>
#include <ucontext.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <vector>

namespace emulated_cuda {
namespace {

constexpr size_t kStack = 128 * 1024;

struct Barrier {
  unsigned expected = 0;
  unsigned arrived = 0;
  unsigned generation = 0;

  void release_if_complete() {
    if (expected > 0 && arrived == expected) {
      arrived = 0;
      ++generation;
    }
  }
};

struct Thread {
  ucontext_t context;
  jmp_buf place;
  bool has_begun = false;
  std::vector<char> stack = std::vector<char>(kStack);
  bool has_returned = false;
};

struct Block {
  std::vector<Thread> threads;
  Barrier whole;
  std::vector<Barrier> warps;
  std::vector<unsigned char> slots;
  ucontext_t scheduler;
  jmp_buf scheduler_place;
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

void meet(Barrier& barrier) {
  const unsigned self = threadIdx.x;
  const unsigned before = barrier.generation;
  ++barrier.arrived;
  barrier.release_if_complete();
  while (barrier.generation == before) {
    if (_setjmp(block.threads[self].place) == 0) {
      _longjmp(block.scheduler_place, 1);
    }
  }
}

void drop(Barrier& barrier) {
  --barrier.expected;
  barrier.release_if_complete();
}

void thread_main() {
  (*block.body)();
  block.threads[threadIdx.x].has_returned = true;
  drop(block.whole);
  drop(block.warps[threadIdx.x / kWarp]);
  _longjmp(block.scheduler_place, 1);
}

// Runs a thread until it waits or returns.
void resume(Thread& thread) {
  if (_setjmp(block.scheduler_place) != 0) {
    return;
  }
  if (thread.has_begun) {
    _longjmp(thread.place, 1);
  }
  thread.has_begun = true;
  swapcontext(&block.scheduler, &thread.context);
}

}  // namespace

void meet_block() { meet(block.whole); }
void meet_warp() { meet(block.warps[threadIdx.x / kWarp]); }
unsigned char* slot(unsigned lane) { return &block.slots[(threadIdx.x / kWarp * kWarp + lane) * 16]; }

void launch(const void* kernel, unsigned blocks, unsigned threads, const std::function<void()>& body) {
  launched.kernels.insert(kernel);
  if (block.threads.size() < threads) {
    block.threads = std::vector<Thread>(threads);
  }
  block.slots.assign(threads * 16, 0);
  block.body = &body;
  blockDim.x = threads;
  for (unsigned b = 0; b < blocks; ++b) {
    blockIdx.x = b;
    block.whole = Barrier{threads};
    block.warps.assign(threads / kWarp, Barrier{kWarp});
    for (unsigned t = 0; t < threads; ++t) {
      Thread& thread = block.threads[t];
      thread.has_begun = thread.has_returned = false;
      getcontext(&thread.context);
      thread.context.uc_stack.ss_sp = thread.stack.data();
      thread.context.uc_stack.ss_size = kStack;
      thread.context.uc_link = nullptr;
      makecontext(&thread.context, &thread_main, 0);
    }
    for (unsigned running = threads; running > 0;) {
      for (unsigned t = 0; t < threads; ++t) {
        if (!block.threads[t].has_returned) {
          threadIdx.x = t;
          resume(block.threads[t]);
          running -= block.threads[t].has_returned ? 1 : 0;
        }
      }
    }
  }
}

}  // namespace emulated_cuda
