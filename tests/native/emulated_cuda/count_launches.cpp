// How many kernels, products of matrices and memsets the host code starts in a call: `count_launches` prints a line per
// call, with tabs between op, sizes, dtype and the three numbers. Nothing runs, so that any size takes no time.
//
// scripts/cuda_table.py compiles it together with csrc/cuda, in place of runtime.cpp and gemm.cpp.
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "segp/distill.h"
#include "segp/dpgd.h"
#include "segp/drift.h"
#include "segp/dual_target.h"
#include "segp/gemm.h"
#include "segp/transfer.h"

namespace {

int kernels, products, memsets;

}  // namespace

namespace emulated_cuda {

void launch(const void*, unsigned, unsigned, cudaStream_t, const std::function<void()>&) { ++kernels; }
int64_t small_work() { return 1 << 24; }
void take_part(void*, void*, void*) {}
void meet_block(Site) {}
void meet_warp(Site) {}
unsigned char* slot(unsigned) { return nullptr; }

}  // namespace emulated_cuda

cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaMemsetAsync(void*, int, size_t, cudaStream_t) {
  ++memsets;
  return cudaSuccess;
}

namespace segp {
namespace cuda {

void gemm(const MatrixRef& a, const MatrixRef& b, const MatrixRef& out, int) {
  ++products;
  for (const MatrixRef& matrix : {a, b, out}) {
    if (reinterpret_cast<uintptr_t>(matrix.data) % 16 != 0) {
      std::fprintf(stderr, "a matrix begins where products are slow\n");
      std::abort();
    }
  }
}
void add_gemm(const MatrixRef& a, const MatrixRef& b, const MatrixRef& out, int device) { gemm(a, b, out, device); }

}  // namespace cuda
}  // namespace segp

namespace {

using segp::DType;
using segp::MatrixRef;

void* const kMemory = reinterpret_cast<void*>(uintptr_t{1} << 20);  // aligned, and never read

MatrixRef matrix(int64_t rows, int64_t cols, DType dtype) { return {kMemory, dtype, rows, cols, cols, 1}; }

template <class Call>
void count(const char* op, const char* names, int64_t first, int64_t second, DType dtype, const Call& call) {
  kernels = products = memsets = 0;
  call();
  std::printf("%s\t%c %ld, %c %ld\t%s\t%d\t%d\t%d\n", op, names[0], static_cast<long>(first), names[1],
              static_cast<long>(second), dtype == DType::kFloat32 ? "float32" : "bfloat16", kernels, products, memsets);
}

}  // namespace

int main() {
  constexpr int64_t kWidth = 512, kFeatures = 768;  // ViT-B/16's
  for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (const auto& [rows, classes] :
         {std::pair<int64_t, int64_t>{32, 90}, {256, 1000}, {512, 20000}, {5000, 25000}}) {
      const MatrixRef images = matrix(rows, kWidth, dtype), text = matrix(classes, kWidth, dtype);
      count("geometry_distill", "BC", rows, classes, dtype, [&] {
        segp::cuda::geometry_distill({images, text, images, text, 100, 20, kMemory, kMemory, kMemory}, kMemory, 0,
                                     nullptr);
      });
    }
    for (const auto& [rows, classes] : {std::pair<int64_t, int64_t>{64, 90}, {256, 1000}, {512, 20000}}) {
      const MatrixRef images = matrix(rows, kWidth, dtype), features = matrix(rows, kFeatures, dtype);
      const MatrixRef text = matrix(classes, kWidth, dtype), prototypes = matrix(classes, kFeatures, dtype);
      count("dual_target_loss", "BC", rows, classes, dtype, [&] {
        segp::cuda::dual_target_loss(
            {images, features, text, prototypes, nullptr, 1, 100, 0.5, kMemory, kMemory, kMemory}, kMemory, 0, nullptr);
      });
    }
    for (const auto& [classes, anchors] :
         {std::pair<int64_t, int64_t>{10, 50}, {90, 450}, {1000, 5000}, {5000, 25000}}) {
      const MatrixRef prototypes = matrix(classes, kFeatures, dtype), rows = matrix(anchors, kFeatures, dtype);
      count("prototype_drift", "CA", classes, anchors, dtype,
            [&] { segp::cuda::prototype_drift({prototypes, rows, rows, 0.1, kMemory, kMemory}, kMemory, 0, nullptr); });
      count("prototype_transfer", "CA", classes, anchors, dtype, [&] {
        segp::cuda::prototype_transfer({prototypes, rows, rows, kMemory}, nullptr, nullptr, kMemory, 0, nullptr);
      });
    }
    const double number = 0.1;
    segp::DpgdParams step{};
    step.dtype = step.grad_dtype = dtype;
    const int64_t size[4] = {64, 3, 224, 224}, stride[4] = {150528, 50176, 224, 1};
    for (int d = 0; d < 4; ++d) {
      step.size[d] = size[d];
      step.x_stride[d] = step.grad_stride[d] = step.seed_stride[d] = step.out_stride[d] = stride[d];
    }
    step.x = step.grad = step.seed = kMemory;
    step.out = kMemory;
    step.step_size = step.epsilon = step.lower = step.upper = {&number, 1};
    count("dpgd_step", "BC", 64, 3, dtype, [&] { segp::cuda::dpgd_step(step, 0, nullptr); });
  }
}
