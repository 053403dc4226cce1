// What the ops on matrices share on the device: workspaces, and how matrices are told to products.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "launch.cuh"
#include "reduce.cuh"
#include "segp/gemm.h"
#include "segp/matrix.h"
#include "vec_io.cuh"

namespace segp {
namespace cuda {

// What the largest parts of a workspace take. The emulation's tests make them small, to see several blocks.
#if !defined(SEGP_CUDA_TILE_BYTES)
#define SEGP_CUDA_TILE_BYTES (40 << 20)
#endif
constexpr int64_t kTileBytes = SEGP_CUDA_TILE_BYTES;     // of similarities
constexpr int64_t kWorkspaceBytes = kTileBytes / 2 * 3;  // of all together

constexpr int kRowThreads = 256;  // for kernels with a warp per row
constexpr int64_t kRowsPerBlock = kRowThreads / kWarp;

// Rows per block for at most `most` of them: blocks of about one size and, where they are that large, a multiple of
// 128, which products of matrices like.
inline int64_t balanced(int64_t rows, int64_t most) {
  constexpr int64_t kTile = 128;
  if (most >= rows) {
    return rows;
  }
  if (most < kTile) {
    return std::max<int64_t>(1, most);
  }
  most -= most % kTile;
  const int64_t blocks = (rows + most - 1) / most;
  const int64_t even = (rows + blocks - 1) / blocks;
  return (even + kTile - 1) / kTile * kTile;
}

inline unsigned blocks_for(int64_t items, int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

// Hands out parts of a workspace, each at a multiple of 256 bytes. With a null base it only counts. Four numbers at a
// time may be read from a part, structures one by one; the emulation's sanitizer knows the rest behind it.
class Workspace {
 public:
  explicit Workspace(void* base) : base_(static_cast<char*>(base)) {}

  template <class T>
  T* take(int64_t count) {
    const int64_t begin = used_;
    used_ += (count * static_cast<int64_t>(sizeof(T)) + 255) / 256 * 256;
    if (base_ == nullptr) {
      return nullptr;
    }
#if !defined(__CUDACC__)
    constexpr int64_t kTogether = sizeof(T) <= sizeof(double) ? 4 : 1;
    const int64_t readable = (count + kTogether - 1) / kTogether * kTogether * static_cast<int64_t>(sizeof(T));
    emulated_cuda::take_part(base_ + begin, base_ + begin + readable, base_ + used_);
#endif
    return reinterpret_cast<T*>(base_ + begin);
  }

  int64_t bytes() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

// The distance between two rows of a tile: a multiple of eight elements, so that every row is aligned for wide
// accesses.
inline int64_t padded(int64_t columns) { return (columns + 7) / 8 * 8; }

template <class T>
MatrixRef dense(T* data, int64_t rows, int64_t cols, int64_t row_stride) {
  return {data, kDTypeOf<std::remove_const_t<T>>, rows, cols, row_stride, 1};
}

inline MatrixRef transposed(const MatrixRef& m) {
  return {m.data, m.dtype, m.cols, m.rows, m.col_stride, m.row_stride};
}

template <class T>
MatrixRef row_range(const MatrixRef& m, int64_t begin, int64_t end) {
  const int64_t offset = m.cols > 0 ? begin * m.row_stride : 0;  // rows without columns may lie nowhere
  return {static_cast<const T*>(m.data) + offset, m.dtype, end - begin, m.cols, m.row_stride, m.col_stride};
}

// Makes the device current for the runtime that is linked to this library, and returns what run returns for the dtype's
// type.
template <class Run>
cudaError_t on_device(int device, DType dtype, const Run& run) {
  cudaError_t status = cudaSetDevice(device);
  if (status == cudaSuccess) {
    visit_dtype(dtype, [&](auto tag) { status = run(tag); });
  }
  return status;
}

// a += b, contiguous.
template <class Acc>
__global__ void __launch_bounds__(kRowThreads) add_kernel(Acc* a, const Acc* b, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (i < count) {
    a[i] += b[i];
  }
}

}  // namespace cuda
}  // namespace segp
