// Few rows against few others, without products of matrices: a block does all that there is to do for its row.
//
// Products of matrices, with what goes before and after, take a dozen launches and views, which cost the host more than
// small sizes cost the device.
#pragma once

#include <algorithm>
#include <cstdint>

#include "unit_rows.cuh"

namespace segp {
namespace cuda {

constexpr int kMostOthers = 1024;  // so that their similarities fit into the shared memory of every device

// Multiplications up to which blocks that read all others again for every row take no longer than a dozen launches. At
// 8 bytes each that is 128 MB from the second-level cache: an estimate. The emulation's tests make it 0, to see the
// products. And what one block may have to read alone, and how many blocks are few.
constexpr int64_t kMostOfABlock = 1 << 18;
constexpr int64_t kMostBlocks = 1 << 14;

inline int64_t small_work() {
#if defined(__CUDACC__)
  return 1 << 24;
#else
  return emulated_cuda::small_work();
#endif
}

inline bool is_small(int64_t rows, int64_t others, int64_t width) {
  const int64_t each = others * std::max<int64_t>(1, width);
  return rows <= kMostBlocks && others <= kMostOthers && each <= kMostOfABlock && rows * each <= small_work();
}

// A number of each of the others, in shared memory. An array, so that the emulation's sanitizer knows where it ends.
template <class Acc>
using OfOthers = Acc[kMostOthers];

// Rows of one width, `stride` apart.
template <class T>
struct Rows {
  const T* data;
  int64_t stride;
  int64_t count;

  explicit Rows(const MatrixRef& m) : data(static_cast<const T*>(m.data)), stride(m.row_stride), count(m.rows) {}

  __device__ __forceinline__ const T* operator[](int64_t i) const { return data + i * stride; }
};

// The sum of a_k b_k, each with its power of two, and of b_k squared; all threads of a warp calling.
template <int kPack, class T>
__device__ __forceinline__ accumulator_t<T> warp_product(const T* a, accumulator_t<T> a_power, const T* b,
                                                         accumulator_t<T> b_power, int64_t width,
                                                         accumulator_t<T>* b_square) {
  using Acc = accumulator_t<T>;
  Acc both = 0;
  Acc square = 0;
  for (int64_t k = threadIdx.x % kWarp * kPack; k < width; k += kWarp * kPack) {
    const Pack<T, kPack> as = *reinterpret_cast<const Pack<T, kPack>*>(a + k);
    const Pack<T, kPack> bs = *reinterpret_cast<const Pack<T, kPack>*>(b + k);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const Acc y = device_load(bs.values[i]) * b_power;
      both += device_load(as.values[i]) * a_power * y;
      square += y * y;
    }
  }
  *b_square = warp_sum(square);
  return warp_sum(both);
}

// cosines[i] = cos(row, others[i]) and, unless null, inverses[i] = 1 / |others[i]|. Returns what turns the row
// into its unit vector. All threads of the block must call it; they may read the results at once.
template <int kPack, class T>
__device__ __forceinline__ UnitScale<accumulator_t<T>> block_cosines(const T* row, const Rows<T>& others, int64_t width,
                                                                     OfOthers<accumulator_t<T>>& cosines,
                                                                     OfOthers<accumulator_t<T>>* inverses) {
  using Acc = accumulator_t<T>;
  const UnitScale<Acc> mine = or_zero(unit_scale<kPack>(row, width));
  for (int64_t i = threadIdx.x / kWarp; i < others.count; i += blockDim.x / kWarp) {
    Acc square;
    Acc both = warp_product<kPack>(row, mine.power, others[i], Acc(1), width, &square);
    UnitScale<Acc> theirs{Acc(1), inverse_root(square)};
    if (!is_usual_square(square)) {
      theirs = or_zero(unit_scale<kPack>(others[i], width));
      both = warp_product<kPack>(row, mine.power, others[i], theirs.power, width, &square);
    }
    if (threadIdx.x % kWarp == 0) {
      cosines[i] = both * mine.inverse * theirs.inverse;
      if (inverses != nullptr) {
        (*inverses)[i] = theirs.inverse * theirs.power;
      }
    }
  }
  __syncthreads();
  return mine;
}

// The gradient with respect to a row: `gradient` times the sum of weights[i] others[i], on its way through the row's
// normalisation. All threads of the block must call it.
template <class T>
__device__ __forceinline__ void block_gradient(const T* row, const UnitScale<accumulator_t<T>>& scale,
                                               const Rows<T>& others, const OfOthers<accumulator_t<T>>& weights,
                                               int64_t width, accumulator_t<T> gradient, accumulator_t<T>* out) {
  using Acc = accumulator_t<T>;
  Acc along = 0;
  for (int64_t k = threadIdx.x; k < width; k += blockDim.x) {
    Acc sum = 0;
#pragma unroll 4
    for (int64_t i = 0; i < others.count; ++i) {
      sum += weights[i] * device_load(others[i][k]);
    }
    out[k] = sum;
    along += device_load(row[k]) * scale.power * scale.inverse * sum;
  }
  along = block_sum(along);
  for (int64_t k = threadIdx.x; k < width; k += blockDim.x) {
    const Acc unit = device_load(row[k]) * scale.power * scale.inverse;
    out[k] = (out[k] - unit * along) * (scale.inverse * scale.power) * gradient;
  }
}

}  // namespace cuda
}  // namespace segp
