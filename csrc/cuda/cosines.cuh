// Cosines from products of rows as they are: the norms come in afterwards.
#pragma once

#include <cstdint>

#include "norms.cuh"
#include "segp/matrix.h"
#include "vec_io.cuh"

namespace segp {
namespace cuda {

// What turns products of rows of two matrices into cosines.
template <class T>
struct Cosines {
  using Acc = accumulator_t<T>;
  const T* rows;  // of the one matrix
  int64_t rows_stride;
  Norms<Acc> row_norms;
  const T* others;
  int64_t others_stride;
  Norms<Acc> other_norms;
  int64_t width;

  // Makes those products of one row with `count` others again whose norms are so extreme that digits may have been
  // lost. All threads of a block must call it, before one reads a product.
  __device__ __forceinline__ void repair(Acc* products, int64_t row, int64_t count) const {
    if (*row_norms.unusual == 0) {
      return;
    }
    for (int64_t other = threadIdx.x; other < count; other += blockDim.x) {
      if (row_norms.power[row] != Acc(1) || other_norms.power[other] != Acc(1)) {
        const Acc cosine = again(row, other);
        products[other] = cosine == Acc(0) ? Acc(0) : cosine / (row_norms.scale[row] * other_norms.scale[other]);
      }
    }
    __syncthreads();
  }

  // Four scales of `other_norms` at once, from a multiple of four on; behind the last there is room. A product times
  // its scale and row_norms.scale is the cosine.
  __device__ __forceinline__ Pack<Acc, 4> scales(int64_t first) const {
    return *reinterpret_cast<const Pack<Acc, 4>*>(other_norms.scale + first);
  }
  __device__ __forceinline__ Pack<Acc, 4> inverses(int64_t first) const {
    return *reinterpret_cast<const Pack<Acc, 4>*>(other_norms.inverse + first);
  }

 private:
  // The cosine of rows brought into range; a thread does that alone, and slowly.
  SEGP_COLD __device__ Acc again(int64_t row, int64_t other) const {
    const Acc row_inverse = row_norms.inverse[row];
    const Acc other_inverse = other_norms.inverse[other];
    if (row_inverse == Acc(0) || other_inverse == Acc(0)) {
      return row_inverse * other_inverse;  // NaN if the other row is not finite
    }
    const Acc row_power = row_norms.power[row];
    const Acc other_power = other_norms.power[other];
    const T* a = rows + row * rows_stride;
    const T* b = others + other * others_stride;
    Acc sum = 0;
    for (int64_t k = 0; k < width; ++k) {
      sum += device_load(a[k]) * row_power * (device_load(b[k]) * other_power);
    }
    return sum * (row_inverse / row_power) * (other_inverse / other_power);
  }
};

template <class T>
Cosines<T> cosines(const MatrixRef& rows, const Norms<accumulator_t<T>>& row_norms, const MatrixRef& others,
                   const Norms<accumulator_t<T>>& other_norms) {
  Cosines<T> result;
  result.rows = static_cast<const T*>(rows.data);
  result.rows_stride = rows.row_stride;
  result.row_norms = row_norms;
  result.others = static_cast<const T*>(others.data);
  result.others_stride = others.row_stride;
  result.other_norms = other_norms;
  result.width = rows.cols;
  return result;
}

}  // namespace cuda
}  // namespace segp
