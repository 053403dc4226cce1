// What this library asks of libtorch_cuda by name: it is not linked to it, as it must load where torch has no CUDA.
#pragma once

#include <dlfcn.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>

namespace segp {

// A C function of libtorch_cuda, or null. Where tensors on a CUDA device exist, that library is in the process.
inline void* torch_cuda_function(const char* name) {
  if (void* function = dlsym(RTLD_DEFAULT, name)) {
    return function;
  }
  // torch's libraries are usually loaded privately. NOLOAD finds the one that is there and loads none.
  void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
  return library == nullptr ? nullptr : dlsym(library, name);
}

// torch's current stream of a device.
inline constexpr const char* kCurrentStream = "aoti_torch_get_current_cuda_stream";
using CurrentStream = AOTITorchError (*)(int32_t device, void** stream);

// out = beta * self + alpha * a·b. The dispatcher's stable entry has no way yet to pass beta and alpha.
inline constexpr const char* kAddmmOut = "aoti_torch_cuda_addmm_out";
using AddmmOut = AOTITorchError (*)(AtenTensorHandle out, AtenTensorHandle self, AtenTensorHandle a, AtenTensorHandle b,
                                    double beta, double alpha);

}  // namespace segp
