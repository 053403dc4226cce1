// gemm by gemm_blocked, or by torch where a product is large.
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <array>

#include "checks.h"
#include "segp/gemm.h"
#include "segp/gemm_blocked.h"

namespace segp {
namespace {

using torch::stable::Tensor;

template <class T>
Tensor view(const GemmMatrix<T>& matrix) {
  using Value = std::remove_const_t<T>;
  constexpr auto kType =
      std::is_same_v<Value, double> ? torch::headeronly::ScalarType::Double : torch::headeronly::ScalarType::Float;
  const std::array<int64_t, 2> size{matrix.rows, matrix.cols};
  const std::array<int64_t, 2> stride{matrix.row_stride, matrix.col_stride};
  return torch::stable::from_blob(const_cast<Value*>(matrix.data), size, stride,
                                  torch::stable::Device(torch::headeronly::DeviceType::CPU), kType);
}

template <class T>
void multiply(const GemmMatrix<const T>& a, const GemmMatrix<const T>& b, const GemmMatrix<T>& out, bool accumulate) {
  static const int64_t limit = cpu::gemm_blocked_limit();
  if (out.rows * out.cols * a.cols < limit) {
    cpu::gemm_blocked(a, b, out, accumulate);
    return;
  }
  // The dispatcher's stable entry has no way yet to pass addmm's scalars; these functions, which torch keeps for
  // programs compiled ahead of time, have.
  const Tensor result = view(out);
  const Tensor left = view(a);
  const Tensor right = view(b);
  if (accumulate) {
    STABLE_TORCH_ERROR_CODE_CHECK(
        aoti_torch_cpu_addmm_out(result.get(), result.get(), left.get(), right.get(), 1.0, 1.0));
  } else {
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_mm_out(result.get(), left.get(), right.get()));
  }
}

}  // namespace

void gemm(const GemmMatrix<const float>& a, const GemmMatrix<const float>& b, const GemmMatrix<float>& out,
          bool accumulate) {
  multiply(a, b, out, accumulate);
}

void gemm(const GemmMatrix<const double>& a, const GemmMatrix<const double>& b, const GemmMatrix<double>& out,
          bool accumulate) {
  multiply(a, b, out, accumulate);
}

}  // namespace segp
