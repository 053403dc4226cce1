// The one place where kernels are started.
#pragma once

#include <cuda_runtime.h>

// A device function that is seldom called: kept out of its callers, whose registers it would take.
#if defined(__CUDACC__)
#define SEGP_COLD __noinline__
#else
#define SEGP_COLD
#endif

namespace segp {
namespace cuda {

template <class... Params, class... Args>
void launch(void (*kernel)(Params...), unsigned blocks, unsigned threads, cudaStream_t stream, const Args&... args) {
#if defined(__CUDACC__)
  kernel<<<blocks, threads, 0, stream>>>(args...);
#else
  // tests/native/emulated_cuda
  emulated_cuda::launch(reinterpret_cast<const void*>(kernel), blocks, threads, stream, [&] { kernel(args...); });
#endif
}

}  // namespace cuda
}  // namespace segp
