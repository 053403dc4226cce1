// Every schema of torch.ops.segp_ext, and what the build has to say about itself.
//
// The library is no Python module: torch.ops.load_library opens it. It uses nothing of Python's C API, so it
// needs no Python headers to build and runs under any Python.
#include <torch/csrc/stable/library.h>

#include "segp_build_info.h"  // written by setup.py: SEGP_EXT_BUILD_INFO, a JSON object in one string literal

// segp_ext/_native.py reads this text from the file before it loads the library, so that a library built from
// other sources is refused without having registered anything. The marker in front and the final zero delimit it.
extern "C" __attribute__((visibility("default"), used)) const char segp_ext_build_info[] =
    "segp_ext-build-info:" SEGP_EXT_BUILD_INFO;

// The four bounds have one value, or one per channel. They live on the host, so that a CUDA kernel gets them as
// arguments and no call waits for the device.
STABLE_TORCH_LIBRARY(segp_ext, library) {
  library.def(
      "dpgd_step(Tensor x, Tensor grad, Tensor seed, float[] step_size, float[] epsilon, float[] lower, "
      "float[] upper) -> Tensor");
  library.def(
      "dpgd_step_(Tensor(a!) x, Tensor grad, Tensor seed, float[] step_size, float[] epsilon, float[] lower, "
      "float[] upper) -> ()");
}
