// The device's products handed to torch, which hands them to cuBLAS.
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <array>

#include "checks.h"
#include "segp/gemm.h"
#include "torch_cuda.h"

namespace segp {
namespace cuda {
namespace {

using torch::stable::Tensor;

Tensor view(const MatrixRef& matrix, int32_t device) {
  const std::array<int64_t, 2> size{matrix.rows, matrix.cols};
  const std::array<int64_t, 2> stride{matrix.row_stride, matrix.col_stride};
  return torch::stable::from_blob(
      const_cast<void*>(matrix.data), size, stride,
      torch::stable::Device(kCudaDeviceType, static_cast<torch::stable::DeviceIndex>(device)),
      scalar_type(matrix.dtype));
}

}  // namespace

void gemm(const MatrixRef& a, const MatrixRef& b, const MatrixRef& out, int device) {
  const Tensor result = view(out, device);
  const auto left = torch::stable::detail::from(view(a, device));
  const auto right = torch::stable::detail::from(view(b, device));
  if (a.dtype == out.dtype) {
    std::array<StableIValue, 3> stack{left, right, torch::stable::detail::from(result)};
    STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::mm", "out", stack.data(), TORCH_ABI_VERSION));
    (void)torch::stable::detail::to<Tensor>(stack[0]);
  } else {
    std::array<StableIValue, 4> stack{left, right, torch::stable::detail::from(scalar_type(out.dtype)),
                                      torch::stable::detail::from(result)};
    STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::mm", "dtype_out", stack.data(), TORCH_ABI_VERSION));
    (void)torch::stable::detail::to<Tensor>(stack[0]);
  }
}

void add_gemm(const MatrixRef& a, const MatrixRef& b, const MatrixRef& out, int device) {
  static const auto add = reinterpret_cast<AddmmOut>(torch_cuda_function(kAddmmOut));
  if (add == nullptr) {
    fail("products on CUDA", kAddmmOut, "is missing in this torch");
  }
  const Tensor result = view(out, device);
  const Tensor left = view(a, device);
  const Tensor right = view(b, device);
  STABLE_TORCH_ERROR_CODE_CHECK(add(result.get(), result.get(), left.get(), right.get(), 1.0, 1.0));
}

}  // namespace cuda
}  // namespace segp
