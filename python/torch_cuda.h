// What this library asks of libtorch_cuda by name: it is not linked to it, as it must load where torch has no CUDA. On
// the emulation (tests/native/emulated_cuda), the processor's tensors are the device's, and libtorch_cpu answers.
#pragma once

#include <dlfcn.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/DeviceType.h>

#include <cstdint>

namespace segp {

#if SEGP_EMULATED_CUDA
inline constexpr auto kCudaDeviceType = torch::headeronly::DeviceType::CPU;
inline constexpr const char* kTorchCuda = "libtorch_cpu.so";
inline constexpr const char* kAddmmOut = "aoti_torch_cpu_addmm_out";
#else
inline constexpr auto kCudaDeviceType = torch::headeronly::DeviceType::CUDA;
inline constexpr const char* kTorchCuda = "libtorch_cuda.so";
inline constexpr const char* kAddmmOut = "aoti_torch_cuda_addmm_out";
#endif

// A C function of libtorch_cuda, or null. Where tensors on a CUDA device exist, that library is in the process.
inline void* torch_cuda_function(const char* name) {
  if (void* function = dlsym(RTLD_DEFAULT, name)) {
    return function;
  }
  // torch's libraries are usually loaded privately. NOLOAD finds the one that is there and loads none.
  void* library = dlopen(kTorchCuda, RTLD_LAZY | RTLD_NOLOAD);
  return library == nullptr ? nullptr : dlsym(library, name);
}

// torch's current stream of a device.
inline constexpr const char* kCurrentStream = "aoti_torch_get_current_cuda_stream";
using CurrentStream = AOTITorchError (*)(int32_t device, void** stream);

// kAddmmOut: out = beta * self + alpha * a·b. The dispatcher's stable entry has no way yet to pass beta and alpha.
using AddmmOut = AOTITorchError (*)(AtenTensorHandle out, AtenTensorHandle self, AtenTensorHandle a, AtenTensorHandle b,
                                    double beta, double alpha);

}  // namespace segp
