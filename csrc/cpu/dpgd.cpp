#include "segp/dpgd.h"

#include <algorithm>
#include <memory>
#include <type_traits>
#include <vector>

#include "half_rows.h"
#include "isa.h"
#include "segp/dpgd_pixel.h"
#include "segp/half.h"
#include "segp/image_layout.h"
#include "segp/parallel.h"

namespace segp {
namespace cpu {
namespace {

using Layout = ImageLayout<4>;  // arrays: out, x, grad, seed

// Work is handed out in blocks of this many elements, so that threads meet at cache-line borders.
constexpr int64_t kBlock = 256;
// Below this many elements per thread, waking a thread costs more than it saves (about 10 us of streaming).
constexpr int64_t kGrain = 32 * 1024;
// Channels-last rows are walked in tiles of whole pixels, about this many elements, so that the per-channel
// values can be read like any other array: from a table of one tile, which stays in the first-level cache.
constexpr int64_t kTile = 512;

// The four bounds of consecutive table entries; one entry per channel, or per element of a tile.
template <class Acc>
struct BoundTable {
  std::vector<Acc> step_size;
  std::vector<Acc> epsilon;
  std::vector<Acc> lower;
  std::vector<Acc> upper;

  int64_t size() const { return static_cast<int64_t>(step_size.size()); }
  SEGP_ALWAYS_INLINE Bounds<Acc> at(size_t entry) const {
    return {step_size[entry], epsilon[entry], lower[entry], upper[entry]};
  }
  void add(const Bounds<Acc>& bounds) {
    step_size.push_back(bounds.step_size);
    epsilon.push_back(bounds.epsilon);
    lower.push_back(bounds.lower);
    upper.push_back(bounds.upper);
  }
};

template <class T, class G>
struct Plan {
  using Acc = accumulator_t<T>;
  T* out;
  const T* x;
  const G* grad;
  const T* seed;
  Layout layout;
  BoundTable<Acc> bounds;  // per channel; repeated to whole tiles when the channels are the innermost axis
};

template <class T, class G>
struct Span {
  T* out;
  const T* x;
  const G* grad;
  const T* seed;
};

// Calls run(floats, first, count) on pieces of a span of halves.
template <class G, class Run>
SEGP_ALWAYS_INLINE void in_floats(const Span<Half, G>& at, int64_t count, const Run& run) {
  constexpr int64_t kPiece = 64;
  float out[kPiece], x[kPiece], grad[kPiece], seed[kPiece];
  float* const floats[] = {x, seed, grad};
  for (int64_t i = 0; i < count; i += kPiece) {
    const int64_t n = std::min(kPiece, count - i);
    if constexpr (std::is_same_v<G, Half>) {
      const Half* const halves[] = {at.x + i, at.seed + i, at.grad + i};
      to_float(halves, 3, n, floats);
    } else {
      const Half* const halves[] = {at.x + i, at.seed + i};
      to_float(halves, 2, n, floats);
      for (int64_t k = 0; k < n; ++k) {
        grad[k] = static_cast<float>(load_value(at.grad[i + k]));
      }
    }
    run(Span<float, float>{out, x, grad, seed}, i, n);
    to_half(out, n, at.out + i);
  }
}

// One channel, all arrays contiguous.
template <class T, class G, class Acc>
SEGP_ALWAYS_INLINE void run_span(const Span<T, G>& at, int64_t count, Bounds<Acc> bounds) {
  if constexpr (std::is_same_v<T, Half>) {
    return in_floats(at, count, [&](const Span<float, float>& floats, int64_t, int64_t n) SEGP_INLINE_LAMBDA {
      run_span(floats, n, bounds);
    });
  }
  T* out = at.out;
  const T* x = at.x;
  const G* grad = at.grad;
  const T* seed = at.seed;
  SEGP_INDEPENDENT_ITERATIONS
  for (int64_t i = 0; i < count; ++i) {
    out[i] = Store<T>::from(dpgd_pixel<Acc>(load_value(x[i]), load_value(grad[i]), load_value(seed[i]), bounds));
  }
}

// Element i takes its bounds from entry i of the tables; all arrays contiguous.
template <class T, class G, class Acc>
SEGP_ALWAYS_INLINE void run_table(const Span<T, G>& at, int64_t count, const Acc* step_size, const Acc* epsilon,
                                  const Acc* lower, const Acc* upper) {
  if constexpr (std::is_same_v<T, Half>) {
    return in_floats(at, count, [&](const Span<float, float>& floats, int64_t i, int64_t n) SEGP_INLINE_LAMBDA {
      run_table(floats, n, step_size + i, epsilon + i, lower + i, upper + i);
    });
  }
  T* out = at.out;
  const T* x = at.x;
  const G* grad = at.grad;
  const T* seed = at.seed;
  SEGP_INDEPENDENT_ITERATIONS
  for (int64_t i = 0; i < count; ++i) {
    out[i] = Store<T>::from(dpgd_pixel<Acc>(load_value(x[i]), load_value(grad[i]), load_value(seed[i]),
                                            Bounds<Acc>{step_size[i], epsilon[i], lower[i], upper[i]}));
  }
}

// Flat layout, elements [begin, end).
template <class T, class G>
SEGP_ALWAYS_INLINE void run_flat(const Plan<T, G>& plan, int64_t begin, int64_t end) {
  const auto& bounds = plan.bounds;
  const int64_t row = plan.layout.channels == 1 ? plan.layout.count : plan.layout.channel_stride;
  const bool tiled = plan.layout.channels > 1 && row == 1;
  const int64_t run = tiled ? bounds.size() : row;
  for (int64_t i = begin; i < end;) {
    const int64_t inside = i % run;
    const int64_t count = std::min(run - inside, end - i);
    const Span<T, G> at{plan.out + i, plan.x + i, plan.grad + i, plan.seed + i};
    if (tiled) {
      run_table(at, count, bounds.step_size.data() + inside, bounds.epsilon.data() + inside,
                bounds.lower.data() + inside, bounds.upper.data() + inside);
    } else {
      const size_t c = static_cast<size_t>((i / run) % plan.layout.channels);
      run_span(at, count, bounds.at(c));
    }
    i += count;
  }
}

// Any strides, elements [begin, end) in the layout's own order.
template <class T, class G>
SEGP_ALWAYS_INLINE void run_strided(const Plan<T, G>& plan, int64_t begin, int64_t end) {
  const Layout& layout = plan.layout;
  const auto& bounds = plan.bounds;
  const int inner = layout.dims - 1;
  const int64_t run = layout.size[inner];
  const int64_t out_stride = layout.stride[0][inner];
  const int64_t x_stride = layout.stride[1][inner];
  const int64_t grad_stride = layout.stride[2][inner];
  const int64_t seed_stride = layout.stride[3][inner];
  const bool contiguous = out_stride == 1 && x_stride == 1 && grad_stride == 1 && seed_stride == 1;
  const bool channels_inside = layout.channel_dim == inner;
  for (int64_t i = begin; i < end;) {
    const int64_t inside = i % run;
    const int64_t count = std::min(run - inside, end - i);
    int64_t offset[4];
    for (int a = 0; a < 4; ++a) {
      offset[a] = inside * layout.stride[a][inner];
    }
    int64_t rest = i / run;
    int64_t channel = 0;
    for (int d = inner - 1; d >= 0; --d) {
      const int64_t index = rest % layout.size[d];
      rest /= layout.size[d];
      if (d == layout.channel_dim) {
        channel = index;
      }
      for (int a = 0; a < 4; ++a) {
        offset[a] += index * layout.stride[a][d];
      }
    }
    const Span<T, G> at{plan.out + offset[0], plan.x + offset[1], plan.grad + offset[2], plan.seed + offset[3]};
    size_t c = static_cast<size_t>(channels_inside ? inside : channel);
    if (contiguous && !channels_inside) {
      run_span(at, count, bounds.at(c));
    } else if (contiguous) {
      run_table(at, count, &bounds.step_size[c], &bounds.epsilon[c], &bounds.lower[c], &bounds.upper[c]);
    } else {
      const size_t next = channels_inside ? 1 : 0;
      SEGP_INDEPENDENT_ITERATIONS
      for (int64_t k = 0; k < count; ++k) {
        const size_t entry = c + static_cast<size_t>(k) * next;
        at.out[k * out_stride] = Store<T>::from(
            dpgd_pixel<accumulator_t<T>>(load_value(at.x[k * x_stride]), load_value(at.grad[k * grad_stride]),
                                         load_value(at.seed[k * seed_stride]), bounds.at(entry)));
      }
    }
    i += count;
  }
}

struct StepKernel {
  template <class T, class G>
  SEGP_ALWAYS_INLINE static void run(const Plan<T, G>& plan, int64_t begin, int64_t end) {
    if (plan.layout.flat) {
      run_flat(plan, begin, end);
    } else {
      run_strided(plan, begin, end);
    }
  }
};

template <class T>
BoundTable<accumulator_t<T>> make_bounds(const DpgdParams& params, const Layout& layout) {
  using Acc = accumulator_t<T>;
  const int64_t channels = layout.channels;
  const bool tiled = layout.flat && channels > 1 && layout.channel_stride == 1;
  const int64_t repeats = tiled ? std::max<int64_t>(1, kTile / channels) : 1;
  BoundTable<Acc> bounds;
  for (int64_t i = 0; i < repeats * channels; ++i) {
    bounds.add(bounds_of<T>(params, i % channels));
  }
  return bounds;
}

template <class T, class G>
void launch(const DpgdParams& params, const Layout& layout) {
  const Plan<T, G> plan{static_cast<T*>(params.out),
                        static_cast<const T*>(params.x),
                        static_cast<const G*>(params.grad),
                        static_cast<const T*>(params.seed),
                        layout,
                        make_bounds<T>(params, layout)};
  const int64_t count = layout.count;
  const int64_t blocks = (count + kBlock - 1) / kBlock;
  parallel_for(blocks, kGrain / kBlock, [&](int64_t begin, int64_t end) {
    run_for_isa<StepKernel>(plan, begin * kBlock, std::min(count, end * kBlock));
  });
}

}  // namespace

void dpgd_step(const DpgdParams& params) {
  const bool per_channel = has_bounds_per_channel(params);
  const Layout layout = Layout::make(
      params.size, {params.out_stride, params.x_stride, params.grad_stride, params.seed_stride}, per_channel);
  if (layout.count == 0) {
    return;
  }
  visit_dtype(params.dtype, [&](auto value_tag) {
    visit_dtype(params.grad_dtype, [&](auto grad_tag) {
      launch<typename decltype(value_tag)::type, typename decltype(grad_tag)::type>(params, layout);
    });
  });
}

}  // namespace cpu
}  // namespace segp
