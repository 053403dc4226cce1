#include "matrix_args.h"

#include <torch/csrc/stable/ops.h>

#include <string>

#include "checks.h"

namespace segp {

using torch::stable::Tensor;

namespace {

MatrixRef matrix(const char* op, const char* argument, const Tensor& tensor, const Tensor& first) {
  if (tensor.dim() != 2) {
    fail(op, argument, "must be a matrix; got " + shape_text(tensor));
  }
  if (tensor.is_cpu() != first.is_cpu() || tensor.get_device_index() != first.get_device_index()) {
    fail(op, argument, "must be on the device of the first argument");
  }
  return {tensor.const_data_ptr(), dtype_of(op, argument, tensor), tensor.size(0), tensor.size(1), tensor.stride(0),
          tensor.stride(1)};
}

void check_size(const char* op, const char* argument, const char* what, int64_t got, int64_t expected) {
  if (got != expected) {
    fail(op, argument,
         std::string("must have ") + std::to_string(expected) + " " + what + "; got " + std::to_string(got));
  }
}

void check_same_shape(const char* op, const char* argument, const MatrixRef& got, const MatrixRef& expected) {
  check_size(op, argument, "rows", got.rows, expected.rows);
  check_size(op, argument, "columns", got.cols, expected.cols);
}

void check_number(const char* op, const char* argument, double value, double minimum) {
  if (!is_scalar_in_range(value, minimum)) {
    fail(op, argument, "is out of its range; got " + std::to_string(value));
  }
}

// A class per row of a matrix.
void check_target(const char* op, const Tensor& target, int64_t rows, const char* like_name, const Tensor& like) {
  if (target.dim() != 1 || target.scalar_type() != torch::headeronly::ScalarType::Long) {
    fail(op, "target", "must be a vector of int64");
  }
  if (target.is_cpu() != like.is_cpu() || target.get_device_index() != like.get_device_index()) {
    fail(op, "target", std::string("must be on the device of ") + like_name);
  }
  check_size(op, "target", "entries", target.size(0), rows);
}

// Prototypes, and the features of anchors before and after a task.
template <typename Params>
void set_anchors(const char* op, Params& params, const Tensor& prototypes, const Tensor& before, const Tensor& after) {
  params.prototypes = matrix(op, "prototypes", prototypes, prototypes);
  params.before = matrix(op, "before", before, prototypes);
  params.after = matrix(op, "after", after, prototypes);
  check_size(op, "before", "columns", params.before.cols, params.prototypes.cols);
  check_same_shape(op, "after", params.after, params.before);
}

}  // namespace

DistillParams distill_params(const Tensor& student, const Tensor& student_text, const Tensor& teacher,
                             const Tensor& teacher_text, double logit_scale, double temperature) {
  constexpr const char* kOp = "geometry_distill";
  DistillParams params{};
  params.student = matrix(kOp, "student", student, student);
  params.student_text = matrix(kOp, "student_text", student_text, student);
  params.teacher = matrix(kOp, "teacher", teacher, student);
  params.teacher_text = matrix(kOp, "teacher_text", teacher_text, student);
  check_size(kOp, "student_text", "columns", params.student_text.cols, params.student.cols);
  check_same_shape(kOp, "teacher", params.teacher, params.student);
  check_same_shape(kOp, "teacher_text", params.teacher_text, params.student_text);
  check_number(kOp, "logit_scale", logit_scale, 0);
  check_number(kOp, "temperature", temperature, 1 / kLargestScalar);
  params.logit_scale = logit_scale;
  params.temperature = temperature;
  return params;
}

DualTargetParams dual_target_params(const Tensor& embedding, const Tensor& feature, const Tensor& text,
                                    const Tensor& prototypes, const Tensor& target, double logit_scale,
                                    double visual_weight) {
  constexpr const char* kOp = "dual_target_loss";
  DualTargetParams params{};
  params.embedding = matrix(kOp, "embedding", embedding, embedding);
  params.feature = matrix(kOp, "feature", feature, embedding);
  params.text = matrix(kOp, "text", text, embedding);
  params.prototypes = matrix(kOp, "prototypes", prototypes, embedding);
  check_size(kOp, "feature", "rows", params.feature.rows, params.embedding.rows);
  check_size(kOp, "text", "columns", params.text.cols, params.embedding.cols);
  check_size(kOp, "prototypes", "columns", params.prototypes.cols, params.feature.cols);
  check_size(kOp, "prototypes", "rows", params.prototypes.rows, params.text.rows);
  check_target(kOp, target, params.embedding.rows, "embedding", embedding);
  if (params.embedding.rows > 0 && params.text.rows == 0) {
    fail(kOp, "text", "must have at least one class");
  }
  check_number(kOp, "logit_scale", logit_scale, 0);
  check_number(kOp, "visual_weight", visual_weight, -kLargestScalar);
  params.target = static_cast<const int64_t*>(target.const_data_ptr());
  params.target_stride = target.stride(0);
  params.logit_scale = logit_scale;
  params.visual_weight = visual_weight;
  return params;
}

DriftParams drift_params(const Tensor& prototypes, const Tensor& before, const Tensor& after, double temperature) {
  constexpr const char* kOp = "prototype_drift";
  DriftParams params{};
  set_anchors(kOp, params, prototypes, before, after);
  check_number(kOp, "temperature", temperature, 1 / kLargestScalar);
  params.temperature = temperature;
  return params;
}

TransferParams transfer_params(const Tensor& prototypes, const Tensor& before, const Tensor& after,
                               const Tensor& target) {
  constexpr const char* kOp = "prototype_transfer";
  TransferParams params{};
  set_anchors(kOp, params, prototypes, before, after);
  check_target(kOp, target, params.before.rows, "prototypes", prototypes);
  if (params.before.rows > 0 && params.prototypes.rows == 0) {
    fail(kOp, "prototypes", "must have at least one class");
  }
  return params;
}

Tensor fresh_gradient(bool wanted, const Tensor& like, torch::headeronly::ScalarType dtype) {
  return wanted ? torch::stable::new_empty(like, {like.size(0), like.size(1)}, dtype)
                : torch::stable::new_empty(like, {0}, dtype);
}

void* address(bool wanted, const Tensor& gradient) { return wanted ? gradient.mutable_data_ptr() : nullptr; }

}  // namespace segp
