#include "matrix_args.h"

#include "checks.h"

namespace segp {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

namespace {

MatrixRef matrix(const char* op, const char* argument, const Tensor& tensor, const Tensor& first) {
  check_matrix(op, argument, shape_of(tensor));
  check_device(op, argument, tensor, "the first argument", first);
  const auto sizes = tensor.sizes();
  const auto strides = tensor.strides();
  return {tensor.const_data_ptr(), dtype_of(op, argument, tensor), sizes[0], sizes[1], strides[0], strides[1]};
}

// A class per row of a matrix. Returns how many there are.
int64_t target_count(const char* op, const Tensor& target, const char* like_name, const Tensor& like) {
  if (target.dim() != 1 || target.scalar_type() != ScalarType::Long) {
    fail(op, "target", "must be a vector of int64");
  }
  check_device(op, "target", target, like_name, like);
  return target.size(0);
}

// Prototypes, and the features of anchors before and after a task.
template <class Args, class Params>
void set_anchors(const char* op, const Args& args, Params& params) {
  params.prototypes = matrix(op, "prototypes", args.prototypes, args.prototypes);
  params.before = matrix(op, "before", args.before, args.prototypes);
  params.after = matrix(op, "after", args.after, args.prototypes);
}

// A gradient of a matrix.
Tensor new_gradient(bool wanted, const Tensor& matrix, ScalarType dtype, NewTensor make) {
  return wanted ? make(matrix, {matrix.size(0), matrix.size(1)}, dtype) : make(matrix, {0}, dtype);
}

void* address(bool wanted, const Tensor& gradient) { return wanted ? gradient.mutable_data_ptr() : nullptr; }

}  // namespace

DistillParams params_of(const DistillArgs& args) {
  constexpr const char* kOp = "geometry_distill";
  DistillParams params{};
  params.student = matrix(kOp, "student", args.student, args.student);
  params.student_text = matrix(kOp, "student_text", args.student_text, args.student);
  params.teacher = matrix(kOp, "teacher", args.teacher, args.student);
  params.teacher_text = matrix(kOp, "teacher_text", args.teacher_text, args.student);
  params.logit_scale = args.logit_scale;
  params.temperature = args.temperature;
  check(params);
  return params;
}

DualTargetParams params_of(const DualTargetArgs& args) {
  constexpr const char* kOp = "dual_target_loss";
  DualTargetParams params{};
  params.embedding = matrix(kOp, "embedding", args.embedding, args.embedding);
  params.feature = matrix(kOp, "feature", args.feature, args.embedding);
  params.text = matrix(kOp, "text", args.text, args.embedding);
  params.prototypes = matrix(kOp, "prototypes", args.prototypes, args.embedding);
  const int64_t targets = target_count(kOp, args.target, "embedding", args.embedding);
  params.target = static_cast<const int64_t*>(args.target.const_data_ptr());
  params.target_stride = args.target.stride(0);
  params.logit_scale = args.logit_scale;
  params.visual_weight = args.visual_weight;
  check(params, targets);
  return params;
}

DriftParams params_of(const DriftArgs& args) {
  DriftParams params{};
  set_anchors("prototype_drift", args, params);
  params.temperature = args.temperature;
  check(params);
  return params;
}

TransferParams params_of(const TransferArgs& args) {
  constexpr const char* kOp = "prototype_transfer";
  TransferParams params{};
  set_anchors(kOp, args, params);
  check(params, target_count(kOp, args.target, "prototypes", args.prototypes));
  return params;
}

Losses new_results(const DistillArgs& args, DistillParams& params, NewTensor make) {
  const ScalarType dtype = scalar_type(result_dtype(params));
  const Tensor loss = make(args.student, {}, dtype);
  const Tensor grad_student = new_gradient(args.student_gradient, args.student, dtype, make);
  const Tensor grad_text = new_gradient(args.text_gradient, args.student_text, dtype, make);
  params.loss = loss.mutable_data_ptr();
  params.grad_student = address(args.student_gradient, grad_student);
  params.grad_student_text = address(args.text_gradient, grad_text);
  return {loss, grad_student, grad_text};
}

Losses new_results(const DualTargetArgs& args, DualTargetParams& params, NewTensor make) {
  const ScalarType dtype = scalar_type(result_dtype(params));
  const Tensor loss = make(args.embedding, {params.embedding.rows}, dtype);
  const Tensor grad_embedding = new_gradient(args.embedding_gradient, args.embedding, dtype, make);
  const Tensor grad_feature = new_gradient(args.feature_gradient, args.feature, dtype, make);
  params.loss = loss.mutable_data_ptr();
  params.grad_embedding = address(args.embedding_gradient, grad_embedding);
  params.grad_feature = address(args.feature_gradient, grad_feature);
  return {loss, grad_embedding, grad_feature};
}

std::tuple<Tensor, Tensor> new_results(const DriftArgs& args, DriftParams& params, NewTensor make) {
  const ScalarType dtype = scalar_type(result_dtype(params));
  const Tensor drift = make(args.prototypes, {params.prototypes.rows, params.prototypes.cols}, dtype);
  const Tensor proximity = make(args.prototypes, {params.prototypes.rows}, dtype);
  params.drift = drift.mutable_data_ptr();
  params.proximity = proximity.mutable_data_ptr();
  return {drift, proximity};
}

Tensor new_results(const TransferArgs& args, TransferParams& params, NewTensor make) {
  const ScalarType dtype = scalar_type(result_dtype(params));
  const Tensor result = make(args.prototypes, {params.prototypes.rows, params.prototypes.cols}, dtype);
  params.result = result.mutable_data_ptr();
  return result;
}

}  // namespace segp
