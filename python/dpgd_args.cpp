#include "dpgd_args.h"

#include <algorithm>

#include "checks.h"

namespace segp {

using torch::stable::Tensor;

namespace {

ChannelValues channel_values(const std::vector<double>& values) {
  return {values.data(), static_cast<int64_t>(values.size())};
}

void copy_strides(const Tensor& tensor, int64_t (&strides)[kImageDims]) {
  const auto source = tensor.strides();
  std::copy(source.begin(), source.end(), strides);
}

}  // namespace

DpgdParams dpgd_params(const char* op, const Tensor& out, const DpgdArgs& args) {
  DpgdParams params;
  set_size(params, op, shape_of(args.x));
  check_size(params, op, "grad", shape_of(args.grad));
  check_device(op, "grad", args.grad, "x", args.x);
  check_size(params, op, "seed", shape_of(args.seed));
  check_device(op, "seed", args.seed, "x", args.x);
  params.dtype = dtype_of(op, "x", args.x);
  params.grad_dtype = dtype_of(op, "grad", args.grad);
  if (dtype_of(op, "seed", args.seed) != params.dtype) {
    fail(op, "seed", "must have the dtype of x");
  }
  params.x = args.x.const_data_ptr();
  params.grad = args.grad.const_data_ptr();
  params.seed = args.seed.const_data_ptr();
  params.out = out.mutable_data_ptr();
  copy_strides(args.x, params.x_stride);
  copy_strides(args.grad, params.grad_stride);
  copy_strides(args.seed, params.seed_stride);
  copy_strides(out, params.out_stride);
  params.step_size = channel_values(args.step_size);
  params.epsilon = channel_values(args.epsilon);
  params.lower = channel_values(args.lower);
  params.upper = channel_values(args.upper);
  check(params, op);
  if (params.out == params.x) {
    check_no_internal_overlap(op, "x", args.x);
    check_no_partial_overlap(op, "x", args.x, "grad", args.grad);
    check_no_partial_overlap(op, "x", args.x, "seed", args.seed);
  }
  return params;
}

}  // namespace segp
