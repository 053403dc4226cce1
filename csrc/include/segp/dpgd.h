// One projected sign step of DPGD, for a batch of images:
//
//   x' = x - step_size * sign(grad)
//   x' = min(max(x', seed - epsilon), seed + epsilon)     projection onto the l-inf ball around the seed
//   out = min(max(x', lower), upper)                      the pixel range
//
// sign(0) = sign(NaN) = 0. A NaN in x or seed gives NaN in that pixel; infinities are clamped like any value.
// Half types and float compute in float, double in double; the result is rounded once.
//
// What holds exactly: lower <= out <= upper as real numbers, whatever the dtype, because the pixel range is
// first rounded inwards to values that the dtype can hold (when it holds none in between, the value nearest to
// lower is used). For float and double, seed - epsilon <= out <= seed + epsilon with both sides evaluated in
// that dtype, wherever the pixel range meets the ball. For half types the last rounding may pass that bound by
// half a unit in the last place of out.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "segp/contract.h"
#include "segp/dtype.h"

namespace segp {

constexpr int kImageDims = 4;  // B, C, H, W

// A number per channel: `count` is 1 (the same for all) or C. Host memory.
struct ChannelValues {
  const double* values;
  int64_t count;

  double at(int64_t channel) const { return values[count == 1 ? 0 : channel]; }
};

// Strides count elements and may be anything, including zero for x, grad and seed. `out` must not overlap
// itself. It may be x itself (same pointer, same strides), as may grad and seed where the dtypes are equal;
// other overlaps of `out` with an input are not allowed. Any size may be zero: nothing is read or written.
struct DpgdParams {
  DType dtype;       // of x, seed and out
  DType grad_dtype;  // of grad
  int64_t size[kImageDims];

  const void* x;     // [B, C, H, W]
  const void* grad;  // [B, C, H, W]
  const void* seed;  // [B, C, H, W]
  void* out;         // [B, C, H, W]
  int64_t x_stride[kImageDims];
  int64_t grad_stride[kImageDims];
  int64_t seed_stride[kImageDims];
  int64_t out_stride[kImageDims];

  ChannelValues step_size;  // finite, >= 0
  ChannelValues epsilon;    // finite, >= 0
  ChannelValues lower;      // finite, <= upper
  ChannelValues upper;      // finite
};

// Sets the size to that of x. Throws OpError unless it has the axes of an image.
inline void set_size(DpgdParams& params, const char* op, const Shape& x) {
  if (x.dims != kImageDims) {
    fail(op, "x", "must be [B, C, H, W]; got " + text_of(x));
  }
  std::copy_n(x.sizes, kImageDims, params.size);
}

// Throws OpError unless another image has the size of x.
inline void check_size(const DpgdParams& params, const char* op, const char* argument, const Shape& image) {
  if (image.dims != kImageDims || !std::equal(params.size, params.size + kImageDims, image.sizes)) {
    fail(op, argument, "must be " + text_of(Shape{params.size, kImageDims}) + " like x; got " + text_of(image));
  }
}

// One finite value, or one per channel of the size.
inline void check_values(const DpgdParams& params, const char* op, const char* argument, const ChannelValues& values,
                         bool may_be_negative) {
  const int64_t channels = params.size[1];
  if (values.count != 1 && values.count != channels) {
    fail(op, argument,
         "must have 1 or " + std::to_string(channels) + " values, one per channel; got " +
             std::to_string(values.count));
  }
  for (int64_t c = 0; c < values.count; ++c) {
    if (!std::isfinite(values.at(c)) || (values.at(c) < 0 && !may_be_negative)) {
      fail(op, argument,
           std::string("must be finite") + (may_be_negative ? "" : " and >= 0") + "; got " +
               std::to_string(values.at(c)));
    }
  }
}

// Throws OpError unless the four bounds are as said above, for images of the size that is set.
inline void check(const DpgdParams& params, const char* op) {
  check_values(params, op, "step_size", params.step_size, false);
  check_values(params, op, "epsilon", params.epsilon, false);
  check_values(params, op, "lower", params.lower, true);
  check_values(params, op, "upper", params.upper, true);
  for (int64_t c = 0; c < std::max(params.lower.count, params.upper.count); ++c) {
    if (params.lower.at(c) > params.upper.at(c)) {
      fail(op, "lower",
           "must be <= upper; got " + std::to_string(params.lower.at(c)) + " and " +
               std::to_string(params.upper.at(c)));
    }
  }
}

namespace cpu {

void dpgd_step(const DpgdParams& params);

}  // namespace cpu

namespace cuda {

// Enqueues on `stream` (a cudaStream_t) of `device`, which must be the calling thread's current device; does not
// synchronise. Returns a cudaError_t, 0 for success.
int dpgd_step(const DpgdParams& params, int device, void* stream);

// The text of what dpgd_step returned.
const char* status_text(int status);

}  // namespace cuda
}  // namespace segp
