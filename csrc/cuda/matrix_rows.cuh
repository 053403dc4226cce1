// What the ops on matrices share on the device: norms, the way of a gradient through a normalisation, workspaces.
//
// The products are those of the rows as they are; their norms come in afterwards. So |a| * |b| must be a normal
// number of the accumulation type for all rows a, b that are multiplied, zero rows excepted.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

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
constexpr int64_t kTileBytes = SEGP_CUDA_TILE_BYTES;  // of similarities
constexpr int64_t kRowsBytes = kTileBytes / 5;        // of rows as wide as the inputs'

constexpr int kRowThreads = 256;  // for kernels with a warp per row
constexpr int64_t kRowsPerBlock = kRowThreads / kWarp;

template <class T>
struct TypeOf;
template <>
struct TypeOf<float> {
  static constexpr DType kValue = DType::kFloat32;
};
template <>
struct TypeOf<double> {
  static constexpr DType kValue = DType::kFloat64;
};
template <>
struct TypeOf<Half> {
  static constexpr DType kValue = DType::kFloat16;
};
template <>
struct TypeOf<BFloat16> {
  static constexpr DType kValue = DType::kBFloat16;
};

inline unsigned blocks_for(int64_t items, int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

// Hands out parts of a workspace, each at a multiple of 256 bytes. With a null base it only counts.
class Workspace {
 public:
  explicit Workspace(void* base) : base_(static_cast<char*>(base)) {}

  template <class T>
  T* take(int64_t count) {
    T* part = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ += (count * static_cast<int64_t>(sizeof(T)) + 255) / 256 * 256;
    return part;
  }

  int64_t bytes() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

// The distance between two rows of a tile: a multiple of eight elements, so that every row is aligned for wide accesses.
inline int64_t padded(int64_t columns) { return (columns + 7) / 8 * 8; }

template <class T>
MatrixRef dense(T* data, int64_t rows, int64_t cols, int64_t row_stride) {
  return {data, TypeOf<std::remove_const_t<T>>::kValue, rows, cols, row_stride, 1};
}

inline MatrixRef transposed(const MatrixRef& m) {
  return {m.data, m.dtype, m.cols, m.rows, m.col_stride, m.row_stride};
}

template <class T>
MatrixRef row_range(const MatrixRef& m, int64_t begin, int64_t end) {
  return {static_cast<const T*>(m.data) + begin * m.row_stride, m.dtype, end - begin, m.cols, m.row_stride,
          m.col_stride};
}

// inverse[i] = 1 / |row i|, 0 for a zero row. A warp per row.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    inverse_norms_kernel(const T* rows, int64_t row_stride, int64_t count, int64_t width, accumulator_t<T>* inverse) {
  using Acc = accumulator_t<T>;
  const int64_t row = blockIdx.x * kRowsPerBlock + threadIdx.x / kWarp;
  if (row >= count) {
    return;
  }
  Acc sum = 0;
  for (int64_t k = threadIdx.x % kWarp; k < width; k += kWarp) {
    const Acc value = device_load(rows[row * row_stride + k]);
    sum += value * value;
  }
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) {
    inverse[row] = sum == Acc(0) ? Acc(0) : Acc(1) / sqrt(sum);
  }
}

template <class T>
void launch_inverse_norms(const MatrixRef& m, accumulator_t<T>* inverse, cudaStream_t stream) {
  if (m.rows > 0) {
    launch(inverse_norms_kernel<T>, blocks_for(m.rows, kRowsPerBlock), kRowThreads, stream,
           static_cast<const T*>(m.data), m.row_stride, m.rows, m.cols, inverse);
  }
}

// sum[i] -> (sum[i] - unit_i (unit_i . sum[i])) * gradient / *factor: from sums of the other side's unit vectors, scaled by
// *factor / |row i|, to the gradient with respect to row i. `sum` is contiguous. A warp per row.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    project_kernel(const T* rows, int64_t row_stride, int64_t count, int64_t width, const accumulator_t<T>* inverse,
                   const accumulator_t<T>* factor, accumulator_t<T> gradient, accumulator_t<T>* sum) {
  using Acc = accumulator_t<T>;
  const int64_t row = blockIdx.x * kRowsPerBlock + threadIdx.x / kWarp;
  if (row >= count) {
    return;
  }
  const T* x = rows + row * row_stride;
  Acc* s = sum + row * width;
  Acc along = 0;
  for (int64_t k = threadIdx.x % kWarp; k < width; k += kWarp) {
    along += device_load(x[k]) * s[k];
  }
  along = warp_sum(along) * inverse[row] * inverse[row];
  const Acc share = gradient / *factor;
  for (int64_t k = threadIdx.x % kWarp; k < width; k += kWarp) {
    s[k] = (s[k] - device_load(x[k]) * along) * share;
  }
}

template <class T>
void launch_project(const MatrixRef& m, const accumulator_t<T>* inverse, const accumulator_t<T>* factor,
                    accumulator_t<T> gradient, accumulator_t<T>* sum, cudaStream_t stream) {
  if (m.rows > 0) {
    launch(project_kernel<T>, blocks_for(m.rows, kRowsPerBlock), kRowThreads, stream, static_cast<const T*>(m.data),
           m.row_stride, m.rows, m.cols, inverse, factor, gradient, sum);
  }
}

// *factor = a power of two by which weights w * a_i * b_j with |w| <= 1 fill the range of T; 1 for types with a wide
// range. One block.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    choose_factor_kernel(const accumulator_t<T>* a, int64_t a_count, const accumulator_t<T>* b, int64_t b_count,
                         accumulator_t<T>* factor) {
  using Acc = accumulator_t<T>;
  if constexpr (!std::is_same<T, Half>::value) {
    if (threadIdx.x == 0) {
      *factor = Acc(1);
    }
  } else {
    Acc most_a = 0;
    Acc most_b = 0;
    for (int64_t i = threadIdx.x; i < a_count; i += blockDim.x) {
      most_a = a[i] > most_a ? a[i] : most_a;
    }
    for (int64_t i = threadIdx.x; i < b_count; i += blockDim.x) {
      most_b = b[i] > most_b ? b[i] : most_b;
    }
    most_a = block_max(most_a);
    most_b = block_max(most_b);
    if (threadIdx.x == 0) {
      const Acc most = most_a * most_b;
      *factor = most > Acc(0) ? exp2(floor(log2(Acc(16384) / most))) : Acc(1);
    }
  }
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
