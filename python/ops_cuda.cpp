// CUDA implementations of the schemas in library.cpp. Compiled only where the kernels are.
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <string>
#include <vector>

#include "checks.h"
#include "dpgd_args.h"
#include "segp/dpgd.h"

namespace {

using torch::stable::Tensor;

// torch's current stream. The function that tells it lives in libtorch_cuda, to which this library is not
// linked, because it must load where torch has no CUDA at all. Where tensors on a CUDA device exist,
// libtorch_cuda is in the process, and is asked for the symbol at the first call.
void* current_stream(const char* op, int32_t device) {
  using Getter = AOTITorchError (*)(int32_t, void**);
  static const Getter getter = [] {
    constexpr const char* kSymbol = "aoti_torch_get_current_cuda_stream";
    void* symbol = dlsym(RTLD_DEFAULT, kSymbol);
    if (symbol == nullptr) {
      // torch's libraries are usually loaded privately. NOLOAD finds the one that is there and loads none.
      if (void* torch_cuda = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD)) {
        symbol = dlsym(torch_cuda, kSymbol);
      }
    }
    return reinterpret_cast<Getter>(symbol);
  }();
  void* stream = nullptr;
  if (getter == nullptr || getter(device, &stream) != TORCH_SUCCESS) {
    segp::fail(op, "x", "is on a CUDA device, but this torch does not tell its current CUDA stream");
  }
  return stream;
}

void run(const char* op, const segp::DpgdParams& params, const Tensor& x) {
  const int32_t device = x.get_device_index();
  const torch::stable::accelerator::DeviceGuard guard(device);
  const int status = segp::cuda::dpgd_step(params, device, current_stream(op, device));
  if (status != 0) {
    segp::fail(op, "kernel", std::string("did not start: ") + segp::cuda::status_text(status));
  }
}

Tensor dpgd_step(const Tensor& x, const Tensor& grad, const Tensor& seed, std::vector<double> step_size,
                 std::vector<double> epsilon, std::vector<double> lower, std::vector<double> upper) {
  Tensor out = torch::stable::empty_like(x);
  run("dpgd_step", segp::dpgd_params("dpgd_step", out, x, grad, seed, step_size, epsilon, lower, upper), x);
  return out;
}

void dpgd_step_(Tensor x, const Tensor& grad, const Tensor& seed, std::vector<double> step_size,
                std::vector<double> epsilon, std::vector<double> lower, std::vector<double> upper) {
  run("dpgd_step_", segp::dpgd_params("dpgd_step_", x, x, grad, seed, step_size, epsilon, lower, upper), x);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(segp_ext, CUDA, library) {
  library.impl("dpgd_step", TORCH_BOX(&dpgd_step));
  library.impl("dpgd_step_", TORCH_BOX(&dpgd_step_));
}
