#include "dpgd_args.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "checks.h"

namespace segp {

using torch::stable::Tensor;

namespace {

void check_image(const char* op, const char* argument, const Tensor& x, const Tensor& tensor) {
  const auto expected = x.sizes();
  const auto got = tensor.sizes();
  if (!std::equal(expected.begin(), expected.end(), got.begin(), got.end())) {
    fail(op, argument, "must be " + shape_text(x) + " like x; got " + shape_text(tensor));
  }
  if (tensor.is_cpu() != x.is_cpu() || tensor.get_device_index() != x.get_device_index()) {
    fail(op, argument, "must be on the device of x");
  }
}

void check_values(const char* op, const char* argument, const std::vector<double>& values, int64_t channels,
                  bool may_be_negative) {
  const auto count = static_cast<int64_t>(values.size());
  if (count != 1 && count != channels) {
    fail(op, argument,
         "must have 1 or " + std::to_string(channels) + " values, one per channel; got " + std::to_string(count));
  }
  for (double value : values) {
    if (!std::isfinite(value) || (value < 0 && !may_be_negative)) {
      fail(op, argument,
           std::string("must be finite") + (may_be_negative ? "" : " and >= 0") + "; got " + std::to_string(value));
    }
  }
}

ChannelValues channel_values(const std::vector<double>& values) {
  return {values.data(), static_cast<int64_t>(values.size())};
}

void copy_strides(const Tensor& tensor, int64_t (&strides)[kImageDims]) {
  const auto source = tensor.strides();
  std::copy(source.begin(), source.end(), strides);
}

}  // namespace

DpgdParams dpgd_params(const char* op, const Tensor& out, const Tensor& x, const Tensor& grad, const Tensor& seed,
                       const std::vector<double>& step_size, const std::vector<double>& epsilon,
                       const std::vector<double>& lower, const std::vector<double>& upper) {
  if (x.dim() != kImageDims) {
    fail(op, "x", "must be [B, C, H, W]; got " + shape_text(x));
  }
  check_image(op, "grad", x, grad);
  check_image(op, "seed", x, seed);
  DpgdParams params;
  params.dtype = dtype_of(op, "x", x);
  params.grad_dtype = dtype_of(op, "grad", grad);
  if (dtype_of(op, "seed", seed) != params.dtype) {
    fail(op, "seed", "must have the dtype of x");
  }
  const int64_t channels = x.size(1);
  check_values(op, "step_size", step_size, channels, false);
  check_values(op, "epsilon", epsilon, channels, false);
  check_values(op, "lower", lower, channels, true);
  check_values(op, "upper", upper, channels, true);

  const auto sizes = x.sizes();
  std::copy(sizes.begin(), sizes.end(), params.size);
  params.x = x.const_data_ptr();
  params.grad = grad.const_data_ptr();
  params.seed = seed.const_data_ptr();
  params.out = out.mutable_data_ptr();
  copy_strides(x, params.x_stride);
  copy_strides(grad, params.grad_stride);
  copy_strides(seed, params.seed_stride);
  copy_strides(out, params.out_stride);
  params.step_size = channel_values(step_size);
  params.epsilon = channel_values(epsilon);
  params.lower = channel_values(lower);
  params.upper = channel_values(upper);
  for (int64_t c = 0; c < std::max(params.lower.count, params.upper.count); ++c) {
    if (params.lower.at(c) > params.upper.at(c)) {
      fail(op, "lower",
           "must be <= upper; got " + std::to_string(params.lower.at(c)) + " and " +
               std::to_string(params.upper.at(c)));
    }
  }
  if (params.out == params.x) {
    check_no_internal_overlap(op, "x", x);
    check_no_partial_overlap(op, "x", x, "grad", grad);
    check_no_partial_overlap(op, "x", x, "seed", seed);
  }
  return params;
}

}  // namespace segp
