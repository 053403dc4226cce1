// dpgd_step against its definition: the CPU's kernels, and with SEGP_EMULATED_CUDA the CUDA ones on the emulation of
// emulated_cuda/.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "check.h"
#include "random.h"
#include "segp/dpgd.h"
#include "segp/half.h"

namespace {

using segp_test::uniform;

struct Bounds {
  std::vector<double> step_size, epsilon, lower, upper;
};

struct Four {
  int64_t at[4];
};

Four contiguous(const Four& size) {
  return {{size.at[1] * size.at[2] * size.at[3], size.at[2] * size.at[3], size.at[3], 1}};
}
Four channels_last(const Four& size) {
  return {{size.at[1] * size.at[2] * size.at[3], 1, size.at[3] * size.at[1], size.at[1]}};
}

segp::ChannelValues values(const std::vector<double>& list) { return {list.data(), static_cast<int64_t>(list.size())}; }

struct Strides {
  Four out, x, grad, seed;
};

template <class T, class G>
struct Images {
  T* out;
  const T* x;
  const G* grad;
  const T* seed;
};

template <class T, class G>
void step(const Four& size, const Images<T, G>& images, const Strides& strides, const Bounds& bounds) {
  segp::DpgdParams params;
  params.dtype = segp::kDTypeOf<T>;
  params.grad_dtype = segp::kDTypeOf<G>;
  std::copy_n(size.at, 4, params.size);
  params.out = images.out;
  params.x = images.x;
  params.grad = images.grad;
  params.seed = images.seed;
  std::copy_n(strides.out.at, 4, params.out_stride);
  std::copy_n(strides.x.at, 4, params.x_stride);
  std::copy_n(strides.grad.at, 4, params.grad_stride);
  std::copy_n(strides.seed.at, 4, params.seed_stride);
  params.step_size = values(bounds.step_size);
  params.epsilon = values(bounds.epsilon);
  params.lower = values(bounds.lower);
  params.upper = values(bounds.upper);
#if SEGP_EMULATED_CUDA
  CHECK(segp::cuda::dpgd_step(params, 0, nullptr) == 0);
#else
  segp::cpu::dpgd_step(params);
#endif
}

double at(const std::vector<double>& list, int64_t channel) {
  return list[list.size() == 1 ? 0 : static_cast<size_t>(channel)];
}

// The contract, in double, element by element.
double by_definition(double x, double grad, double seed, const Bounds& bounds, int64_t c) {
  const double sign = grad > 0 ? 1 : grad < 0 ? -1 : 0;
  double y = x - at(bounds.step_size, c) * sign;
  y = std::min(std::max(y, seed - at(bounds.epsilon, c)), seed + at(bounds.epsilon, c));
  return std::min(std::max(y, at(bounds.lower, c)), at(bounds.upper, c));
}

template <class T, class G>
void compare(const Four& size, const Strides& strides, const Bounds& bounds, double tolerance, size_t offset = 0) {
  auto extent = [&](const Four& stride) {
    int64_t last = 0;
    for (int d = 0; d < 4; ++d) {
      last += (size.at[d] - 1) * stride.at[d];
    }
    return static_cast<size_t>(last + 1) + offset;
  };
  std::vector<T> out(extent(strides.out)), x(extent(strides.x)), seed(extent(strides.seed));
  std::vector<G> grad(extent(strides.grad));
  for (T& value : x) value = segp::Store<T>::from(static_cast<segp::accumulator_t<T>>(uniform() * 1.4 - 0.2));
  for (T& value : seed) value = segp::Store<T>::from(static_cast<segp::accumulator_t<T>>(uniform()));
  for (G& value : grad) {
    const double drawn = uniform() - 0.5;
    value = segp::Store<G>::from(static_cast<segp::accumulator_t<G>>(drawn < -0.4 ? 0.0 : drawn));
  }
  step<T, G>(size, {out.data() + offset, x.data() + offset, grad.data() + offset, seed.data() + offset}, strides,
             bounds);
  for (int64_t b = 0; b < size.at[0]; ++b) {
    for (int64_t c = 0; c < size.at[1]; ++c) {
      for (int64_t h = 0; h < size.at[2]; ++h) {
        for (int64_t w = 0; w < size.at[3]; ++w) {
          auto place = [&](const Four& s) {
            return offset + static_cast<size_t>(b * s.at[0] + c * s.at[1] + h * s.at[2] + w * s.at[3]);
          };
          const double wanted =
              by_definition(segp::load_value(x[place(strides.x)]), segp::load_value(grad[place(strides.grad)]),
                            segp::load_value(seed[place(strides.seed)]), bounds, c);
          const double got = segp::load_value(out[place(strides.out)]);
          CHECK(std::abs(got - wanted) <= tolerance);
          CHECK(got >= at(bounds.lower, c) && got <= at(bounds.upper, c));
        }
      }
    }
  }
}

const Bounds kShared = {{0.06}, {0.1}, {0.0}, {1.0}};
const Bounds kPerChannel = {{0.05, 0.11, 0.02}, {0.1, 0.3, 0.2}, {0.1}, {0.9, 0.71, 0.83}};

#if SEGP_EMULATED_CUDA
const std::vector<Four> kSizes = {Four{{2, 3, 5, 7}}, Four{{1, 3, 1, 1}}, Four{{3, 3, 31, 17}}};
#else
const std::vector<Four> kSizes = {Four{{2, 3, 5, 7}}, Four{{1, 3, 1, 1}}, Four{{3, 3, 61, 67}}, Four{{2, 3, 160, 128}}};
#endif

template <class T, class G>
void compare_layouts(double tolerance) {
  for (const Bounds& bounds : {kShared, kPerChannel}) {
    for (const Four& size : kSizes) {
      const Four plain = contiguous(size);
      const Four last = channels_last(size);
      compare<T, G>(size, {plain, plain, plain, plain}, bounds, tolerance);
      compare<T, G>(size, {last, last, last, last}, bounds, tolerance);
      compare<T, G>(size, {plain, plain, last, plain}, bounds, tolerance);
      compare<T, G>(size, {last, plain, last, Four{{0, 0, 0, 0}}}, bounds, tolerance);
      const Four holes = {{plain.at[0] * 2, plain.at[1] * 2, plain.at[2] * 2, 2}};
      compare<T, G>(size, {holes, plain, plain, holes}, bounds, tolerance);
      compare<T, G>(size, {plain, plain, plain, plain}, bounds, tolerance, 1);  // not aligned to more than an element
    }
  }
}

// Every pair of dtypes has kernels of its own.
template <class G>
void compare_types() {
  compare_layouts<float, G>(3e-7);
  compare_layouts<double, G>(1e-15);
  compare_layouts<segp::Half, G>(1.0 / 2048);
  compare_layouts<segp::BFloat16, G>(1.0 / 256);
}

TEST_CASE(layouts_with_float32_gradients) { compare_types<float>(); }
TEST_CASE(layouts_with_float64_gradients) { compare_types<double>(); }
TEST_CASE(layouts_with_float16_gradients) { compare_types<segp::Half>(); }
TEST_CASE(layouts_with_bfloat16_gradients) { compare_types<segp::BFloat16>(); }

TEST_CASE(more_channels_than_travel_at_once) {
  Bounds bounds = kShared;
  for (int c = 1; c < 70; ++c) {
    bounds.epsilon.push_back(0.1 + 0.001 * c);
  }
  const Four size = {{2, 70, 3, 2}};
  const Four plain = contiguous(size), last = channels_last(size);
  compare<float, float>(size, {plain, plain, plain, plain}, bounds, 3e-7);
  compare<float, float>(size, {last, last, plain, last}, bounds, 3e-7);
}

// The numbers of tests/ops/test_dpgd.py's case by hand.
TEST_CASE(by_hand_in_place) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> x = {0.5f, 0.5f, 0.5f, 0.5f, 0.25f, 0.75f, 0.0f, 1.0f};
  const std::vector<float> seed = {0.5f, 0.5f, 0.75f, 0.25f, 0.25f, 0.75f, 0.0f, 1.0f};
  const std::vector<float> grad = {3.0f, -1e-3f, 0.0f, nan, 1.0f, -1.0f, 1.0f, -1.0f};
  const std::vector<float> wanted = {0.4375f, 0.5625f, 0.6875f, 0.3125f, 0.125f, 0.875f, 0.125f, 0.875f};
  const Four size = {{1, 2, 1, 4}};
  const Four stride = contiguous(size);
  step<float, float>(size, {x.data(), x.data(), grad.data(), seed.data()}, {stride, stride, stride, stride},
                     Bounds{{0.125, 0.25}, {0.0625, 0.5}, {0.0, 0.125}, {1.0, 0.875}});
  CHECK(x == wanted);
}

TEST_CASE(nan_pixels_stay_nan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> x(40, 0.5f), seed(40, 0.5f), out(40);
  const std::vector<float> grad(40, 1.0f);
  x[3] = nan;
  seed[21] = nan;
  const Four size = {{1, 1, 1, 40}};
  const Four stride = contiguous(size);
  step<float, float>(size, {out.data(), x.data(), grad.data(), seed.data()}, {stride, stride, stride, stride}, kShared);
  for (size_t i = 0; i < out.size(); ++i) {
    CHECK(std::isnan(out[i]) == (i == 3 || i == 21));
  }
}

TEST_CASE(empty_reads_and_writes_nothing) {
  const Four size = {{2, 0, 4, 4}};
  const Four stride = contiguous(size);
  step<float, float>(size, {}, {stride, stride, stride, stride}, kShared);
}

}  // namespace
