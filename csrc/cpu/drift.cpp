#include "segp/drift.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "isa.h"
#include "segp/buffer.h"
#include "segp/gemm.h"
#include "segp/parallel.h"
#include "unit_rows.h"
#include "vector_math.h"

namespace segp {
namespace cpu {
namespace {

// Elements that a thread should have to work on, at least.
constexpr int64_t kGrain = 16 * 1024;
// The exponent's offset follows the maximum only when it has moved by more than this: until then the weights stay
// below exp(8), and the sums so far need no rescaling.
constexpr double kSlack = 8.0;

// A prototype's sums over the anchors seen so far, all relative to exp(offset).
template <class T>
struct Running {
  T offset = -std::numeric_limits<T>::infinity();
  T weights = T(0);
  T proximity = T(0);
};

template <class T>
struct ChunkArgs {
  T* x;            // [anchors] products, to be multiplied by factor * scale[a] to become cosines; then weights
  const T* scale;  // [anchors]
  T factor;
  T sharpness;  // 1 / tau
  int64_t anchors;
  Running<T>* sums;  // brought up to date
  T* drift;          // [width] the prototype's sum so far
  int64_t width;
};

// One prototype and one chunk of anchors, between the product that makes the cosines and the one that uses them.
struct ChunkKernel {
  // Leaves x[a] = exp(cosine / tau - offset).
  template <class T>
  SEGP_ALWAYS_INLINE static void run(ChunkArgs<T> args) {
    T* x = args.x;
    Running<T>* sums = args.sums;
    T lane[kLanes];
    for (int k = 0; k < kLanes; ++k) {
      lane[k] = -std::numeric_limits<T>::infinity();
    }
    for_lanes(args.anchors, [&](int64_t a, int k) SEGP_INLINE_LAMBDA {
      x[a] *= args.factor * args.scale[a];
      lane[k] = x[a] > lane[k] ? x[a] : lane[k];
    });
    const T most = combine_max(lane) * args.sharpness;
    if (most > sums->offset + T(kSlack)) {
      if (sums->weights > T(0)) {
        const T shrink = std::exp(sums->offset - most);
        sums->weights *= shrink;
        sums->proximity *= shrink;
        for (int64_t k = 0; k < args.width; ++k) {
          args.drift[k] *= shrink;
        }
      }
      sums->offset = most;
    }
    const T offset = sums->offset;
    T proximity[kLanes];
    for (int k = 0; k < kLanes; ++k) {
      lane[k] = proximity[k] = T(0);
    }
    for_lanes(args.anchors, [&](int64_t a, int k) SEGP_INLINE_LAMBDA {
      const T cosine = x[a];
      x[a] = vector_exp(cosine * args.sharpness - offset);
      lane[k] += x[a];
      proximity[k] += x[a] * (cosine < T(0) ? T(0) : cosine);
    });
    sums->weights += combine_sum(lane);
    sums->proximity += combine_sum(proximity);
  }
};

struct DivideKernel {
  template <class T>
  SEGP_ALWAYS_INLINE static void run(T* drift, int64_t width, T weights) {
    const T share = T(1) / weights;
    for (int64_t k = 0; k < width; ++k) {
      drift[k] *= share;
    }
  }
};

template <class T>
void run(const DriftParams& params) {
  constexpr int64_t kMovedBytes = 6 << 20;  // of one chunk of anchors
  constexpr int64_t kTileBytes = 16 << 20;
  const int64_t classes = params.prototypes.rows;
  const int64_t anchors = params.before.rows;
  const int64_t width = params.prototypes.cols;
  T* drift = static_cast<T*>(params.drift);
  T* proximity = static_cast<T*>(params.proximity);
  if (anchors == 0 || classes == 0) {
    std::fill_n(drift, classes * width, T(0));
    std::fill_n(proximity, classes, T(0));
    return;
  }
  const int64_t stride = std::max<int64_t>(width, 1);
  const int64_t most_anchors = std::max<int64_t>(16, kMovedBytes / (stride * static_cast<int64_t>(sizeof(T))));
  const int64_t chunk = std::min(anchors, most_anchors);
  const int64_t most_classes = std::max<int64_t>(16, kTileBytes / (chunk * static_cast<int64_t>(sizeof(T))));
  const int64_t block = std::min({classes, most_classes, 4 * cached_rows(width, sizeof(T))});
  UnitRows<T> prototypes(params.prototypes, block);
  UnitRows<T> before(params.before, chunk);
  Buffer<T> moved(chunk * width);
  Buffer<T> tile(block * chunk);
  Buffer<Running<T>> sums(classes);
  std::fill_n(sums.data(), classes, Running<T>{});
  const T sharpness = static_cast<T>(1.0 / params.temperature);

  for (int64_t a = 0; a < anchors; a += chunk) {
    const int64_t count = std::min(anchors, a + chunk) - a;
    subtract_rows(params.after, params.before, a, a + count, moved.data());
    const GemmMatrix<const T> nearby = before.rows(a, a + count).transposed();
    for (int64_t c = 0; c < classes; c += block) {
      const int64_t rows = std::min(classes, c + block) - c;
      gemm(prototypes.rows(c, c + rows), nearby, GemmMatrix<T>{tile.data(), rows, count, count, 1}, false);
      parallel_for(rows, std::max<int64_t>(1, kGrain / count), [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
          ChunkArgs<T> args;
          args.x = tile.data() + i * count;
          args.scale = before.scale() + a;
          args.factor = prototypes.scale()[c + i];
          args.sharpness = sharpness;
          args.anchors = count;
          args.sums = sums.data() + c + i;
          args.drift = drift + (c + i) * width;
          args.width = width;
          run_for_isa<ChunkKernel>(args);
        }
      });
      gemm({tile.data(), rows, count, count, 1}, {moved.data(), count, width, stride, 1},
           GemmMatrix<T>{drift + c * width, rows, width, stride, 1}, a > 0);
    }
  }
  parallel_for(classes, std::max<int64_t>(1, kGrain / stride), [&](int64_t first, int64_t last) {
    for (int64_t c = first; c < last; ++c) {
      run_for_isa<DivideKernel>(drift + c * width, width, sums[c].weights);
      proximity[c] = sums[c].proximity / sums[c].weights;
    }
  });
}

}  // namespace

void prototype_drift(const DriftParams& params) {
  if (result_dtype(params) == DType::kFloat64) {
    run<double>(params);
  } else {
    run<float>(params);
  }
}

}  // namespace cpu
}  // namespace segp
