#include "segp/transfer.h"

#include <algorithm>
#include <cmath>

#include "launch.cuh"
#include "matrix_rows.cuh"
#include "unit_rows.cuh"

namespace segp {
namespace cuda {
namespace {

// A warp per anchor while its products are made, then a thread per column while they are used: by then the rows are in
// the cache. So many anchors go through together.
constexpr int kTogether = kRowThreads / kWarp;
// Two keep memory busy and leave 128 registers a thread. Without a bound the compiler spills some, for more blocks.
constexpr int kBlocksPerMultiprocessor = 2;

template <class T>
struct TransferArgs {
  using Acc = accumulator_t<T>;
  const T* prototypes;
  int64_t prototypes_stride;
  const T* before;
  int64_t before_stride;
  const T* after;
  int64_t after_stride;
  int64_t classes;
  int64_t anchors;
  int64_t width;
  const int64_t* sorted;  // [A]
  const int64_t* order;   // [A]
  Acc* partial;           // [A / kTransferPiece, D]
  Acc* result;            // [C, D]
};

// The first place in `sorted` with a value of at least `value`. All threads of the block must call it, and narrow the
// range down together.
__device__ __forceinline__ int64_t first_at_least(const int64_t* sorted, int64_t count, int64_t value) {
  int64_t low = 0;
  int64_t high = count;
  while (low < high) {
    const int64_t step = (high - low + kRowThreads - 1) / kRowThreads;
    const int64_t place = low + static_cast<int64_t>(threadIdx.x) * step;
    const int smaller = block_sum(place < high && sorted[place] < value ? 1 : 0);  // a prefix of the places
    if (smaller == 0) {
      break;
    }
    const int64_t last_smaller = low + (smaller - 1) * step;
    high = last_smaller + step < high ? last_smaller + step : high;
    low = last_smaller + 1;
  }
  return low;
}

template <class T>
__device__ __forceinline__ bool has_wrong_target(const TransferArgs<T>& args) {
  return args.anchors > 0 && (args.sorted[0] < 0 || args.sorted[args.anchors - 1] >= args.classes);
}

// sum = the sum over anchors [begin, end) of `order` of a (unit(after) - unit(before)). A thread keeps to its columns
// of `sum`.
template <class T, int kPack>
__device__ __forceinline__ void add_anchors(const TransferArgs<T>& args, const T* prototype, int64_t begin, int64_t end,
                                            accumulator_t<T>* sum) {
  using Acc = accumulator_t<T>;
  // Of each anchor: what its rows are multiplied by, and what then.
  __shared__ Acc before_power[kTogether], before_weight[kTogether], after_power[kTogether], after_weight[kTogether];
  const int warp = static_cast<int>(threadIdx.x / kWarp);
  const int64_t lane_column = threadIdx.x % kWarp * kPack;
  const UnitScale<Acc> centre = unit_scale<kPack>(prototype, args.width);
  for (int64_t first = begin; first < end; first += kTogether) {
    const int count = static_cast<int>(end - first < kTogether ? end - first : kTogether);
    __syncthreads();  // the weights may still be read
    if (warp < count) {
      const int64_t anchor = args.order[first + warp];
      const T* before = args.before + anchor * args.before_stride;
      const T* after = args.after + anchor * args.after_stride;
      Acc along = 0;
      Acc before_square = 0;
      Acc after_square = 0;
      for (int64_t k = lane_column; k < args.width; k += kWarp * kPack) {
        const Pack<T, kPack> bs = *reinterpret_cast<const Pack<T, kPack>*>(before + k);
        const Pack<T, kPack> ss = *reinterpret_cast<const Pack<T, kPack>*>(after + k);
        const Pack<T, kPack> ps = *reinterpret_cast<const Pack<T, kPack>*>(prototype + k);
#pragma unroll
        for (int i = 0; i < kPack; ++i) {
          const Acc b = device_load(bs.values[i]);
          const Acc s = device_load(ss.values[i]);
          along += b * (device_load(ps.values[i]) * centre.power * centre.inverse);
          before_square += b * b;
          after_square += s * s;
        }
      }
      along = warp_sum(along);
      before_square = warp_sum(before_square);
      after_square = warp_sum(after_square);
      UnitScale<Acc> from{Acc(1), inverse_root(before_square)};
      if (!is_usual_square(before_square)) {
        from = unit_scale<kPack>(before, args.width);
        along = 0;
        for (int64_t k = threadIdx.x % kWarp; k < args.width; k += kWarp) {
          along += device_load(before[k]) * from.power * (device_load(prototype[k]) * centre.power * centre.inverse);
        }
        along = warp_sum(along);
      }
      UnitScale<Acc> to{Acc(1), inverse_root(after_square)};
      if (!is_usual_square(after_square)) {
        to = unit_scale<kPack>(after, args.width);
      }
      if (lane_column == 0) {
        const Acc a = along * from.inverse;
        before_power[warp] = from.power;
        before_weight[warp] = a * from.inverse;
        after_power[warp] = to.power;
        after_weight[warp] = a * to.inverse;
      }
    }
    __syncthreads();
    for (int64_t k = threadIdx.x * kPack; k < args.width; k += kRowThreads * kPack) {
      Pack<Acc, kPack> sums;
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        sums.values[i] = first == begin ? Acc(0) : sum[k + i];
      }
      for (int w = 0; w < count; ++w) {
        const int64_t anchor = args.order[first + w];
        const Pack<T, kPack> bs =
            *reinterpret_cast<const Pack<T, kPack>*>(args.before + anchor * args.before_stride + k);
        const Pack<T, kPack> ss = *reinterpret_cast<const Pack<T, kPack>*>(args.after + anchor * args.after_stride + k);
#pragma unroll
        for (int i = 0; i < kPack; ++i) {
          sums.values[i] += device_load(ss.values[i]) * after_power[w] * after_weight[w] -
                            device_load(bs.values[i]) * before_power[w] * before_weight[w];
        }
      }
      *reinterpret_cast<Pack<Acc, kPack>*>(sum + k) = sums;
    }
  }
}

// row = unit(unit(prototype) + row / count); with a count of 0, the unit prototype. All threads of the block must call
// it.
template <class T, int kPack>
__device__ __forceinline__ void finish_row(const T* prototype, int64_t width, int64_t count, accumulator_t<T>* row) {
  using Acc = accumulator_t<T>;
  const UnitScale<Acc> centre = unit_scale<kPack>(prototype, width);
  const Acc share = count > 0 ? Acc(1) / static_cast<Acc>(count) : Acc(0);
  __syncthreads();  // others wrote what a thread reads here
  for (int64_t k = threadIdx.x; k < width; k += kRowThreads) {
    const Acc unit = device_load(prototype[k]) * centre.power * centre.inverse;
    row[k] = count > 0 ? unit + row[k] * share : unit;
  }
  if (count == 0) {
    return;
  }
  __syncthreads();  // a warp reads the whole row
  const UnitScale<Acc> scale = unit_scale<1>(row, width);
  __syncthreads();  // and is done with it
  for (int64_t k = threadIdx.x; k < width; k += kRowThreads) {
    row[k] = row[k] * scale.power * scale.inverse;
  }
}

// A block per class adds up its first piece, and finishes it where there is no other. A further block per
// kTransferPiece anchors adds up a later piece, if there is one for it: the piece m > 0 of a class that begins at
// `first` takes the anchors from first + m * kTransferPiece on, and the block of the last multiple of kTransferPiece up
// to there.
template <class T, int kPack>
__global__ void __launch_bounds__(kRowThreads, kBlocksPerMultiprocessor) add_pieces_kernel(const TransferArgs<T> args) {
  using Acc = accumulator_t<T>;
  const int64_t later = static_cast<int64_t>(blockIdx.x) - args.classes;
  const bool is_first = later < 0;
  if (has_wrong_target(args)) {
    for (int64_t k = threadIdx.x; is_first && k < args.width; k += kRowThreads) {
      args.result[blockIdx.x * args.width + k] = Acc(NAN);
    }
    return;
  }
  const int64_t place = (later + 1) * kTransferPiece;
  if (!is_first && place >= args.anchors) {
    return;
  }
  const int64_t c = is_first ? static_cast<int64_t>(blockIdx.x) : args.sorted[place];
  const int64_t first = first_at_least(args.sorted, args.anchors, c);
  const int64_t end = first_at_least(args.sorted, args.anchors, c + 1);
  const int64_t begin =
      is_first ? first : first + (place - first + kTransferPiece - 1) / kTransferPiece * kTransferPiece;
  if (!is_first && (begin == first || begin >= end)) {
    return;
  }
  const T* prototype = args.prototypes + c * args.prototypes_stride;
  Acc* row = is_first ? args.result + c * args.width : args.partial + later * args.width;
  add_anchors<T, kPack>(args, prototype, begin, begin + kTransferPiece < end ? begin + kTransferPiece : end, row);
  if (is_first && end - first <= kTransferPiece) {
    finish_row<T, kPack>(prototype, args.width, end - first, row);
  }
}

// The blocks of the second pieces: each adds up the pieces of its class, in their order, and finishes it.
template <class T, int kPack>
__global__ void __launch_bounds__(kRowThreads, kBlocksPerMultiprocessor)
    combine_pieces_kernel(const TransferArgs<T> args) {
  using Acc = accumulator_t<T>;
  const int64_t place = (static_cast<int64_t>(blockIdx.x) + 1) * kTransferPiece;
  if (has_wrong_target(args) || place >= args.anchors) {
    return;
  }
  const int64_t c = args.sorted[place];
  const int64_t first = first_at_least(args.sorted, args.anchors, c);
  const int64_t end = first_at_least(args.sorted, args.anchors, c + 1);
  if (place <= first || place > first + kTransferPiece || first + kTransferPiece >= end) {
    return;
  }
  Acc* row = args.result + c * args.width;
  for (int64_t k = threadIdx.x; k < args.width; k += kRowThreads) {
    Acc sum = row[k];
    for (int64_t begin = first + kTransferPiece; begin < end; begin += kTransferPiece) {
      sum += args.partial[(begin / kTransferPiece - 1) * args.width + k];
    }
    row[k] = sum;
  }
  finish_row<T, kPack>(args.prototypes + c * args.prototypes_stride, args.width, end - first, row);
}

int64_t later_pieces(const TransferParams& params) { return params.before.rows / kTransferPiece; }

template <class T, int kPack>
void launch_pieces(const TransferArgs<T>& args, int64_t later, cudaStream_t stream) {
  launch(add_pieces_kernel<T, kPack>, static_cast<unsigned>(args.classes + later), kRowThreads, stream, args);
  if (later > 0) {
    launch(combine_pieces_kernel<T, kPack>, static_cast<unsigned>(later), kRowThreads, stream, args);
  }
}

template <class T>
cudaError_t run(const TransferParams& params, const int64_t* sorted, const int64_t* order, void* workspace,
                cudaStream_t stream) {
  using Acc = accumulator_t<T>;
  constexpr int kPack = kVectorBytes / static_cast<int>(sizeof(T));
  if (params.prototypes.rows == 0 || params.prototypes.cols == 0) {
    return cudaSuccess;
  }
  TransferArgs<T> args;
  args.prototypes = static_cast<const T*>(params.prototypes.data);
  args.prototypes_stride = params.prototypes.row_stride;
  args.before = static_cast<const T*>(params.before.data);
  args.before_stride = params.before.row_stride;
  args.after = static_cast<const T*>(params.after.data);
  args.after_stride = params.after.row_stride;
  args.classes = params.prototypes.rows;
  args.anchors = params.before.rows;
  args.width = params.prototypes.cols;
  args.sorted = sorted;
  args.order = order;
  args.partial = static_cast<Acc*>(workspace);
  args.result = static_cast<Acc*>(params.result);
  const bool wide = can_pack<kPack, T>(params.prototypes) && can_pack<kPack, T>(params.before) &&
                    can_pack<kPack, T>(params.after) && is_aligned_for_pack<Acc, kPack>(params.result) &&
                    is_aligned_for_pack<Acc, kPack>(workspace);
  if (wide) {
    launch_pieces<T, kPack>(args, later_pieces(params), stream);
  } else {
    launch_pieces<T, 1>(args, later_pieces(params), stream);
  }
  return cudaGetLastError();
}

}  // namespace

int64_t prototype_transfer_workspace(const TransferParams& params) {
  int64_t bytes = 0;
  visit_dtype(params.prototypes.dtype, [&](auto tag) {
    using Acc = accumulator_t<typename decltype(tag)::type>;
    bytes = later_pieces(params) * params.prototypes.cols * static_cast<int64_t>(sizeof(Acc));
  });
  return bytes;
}

int prototype_transfer(const TransferParams& params, const int64_t* sorted, const int64_t* order, void* workspace,
                       int device, void* stream) {
  return on_device(device, params.prototypes.dtype, [&](auto tag) {
    return run<typename decltype(tag)::type>(params, sorted, order, workspace, static_cast<cudaStream_t>(stream));
  });
}

}  // namespace cuda
}  // namespace segp
