// NumPy bindings of the CPU kernels, for use and tests without torch. Built by CMake only.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <exception>
#include <string>
#include <vector>

#include "segp/contract.h"
#include "segp/distill.h"
#include "segp/dpgd.h"
#include "segp/drift.h"
#include "segp/dual_target.h"
#include "segp/transfer.h"

namespace py = pybind11;

namespace {

segp::DType dtype_of(const char* op, const char* argument, const py::array& array) {
  const py::dtype dtype = array.dtype();
  if (dtype.kind() == 'f' && dtype.byteorder() != '>') {
    switch (dtype.itemsize()) {
      case 2:
        return segp::DType::kFloat16;
      case 4:
        return segp::DType::kFloat32;
      case 8:
        return segp::DType::kFloat64;
    }
  }
  throw py::type_error(std::string(op) + ": " + argument + " must be float16, float32 or float64");
}

int64_t stride_of(const char* op, const char* argument, const py::array& array, int axis) {
  if (array.strides(axis) % array.itemsize() != 0) {
    throw py::value_error(std::string(op) + ": " + argument + " has strides that split its elements");
  }
  return array.strides(axis) / array.itemsize();
}

void copy_strides(const char* argument, const py::array& array, int64_t (&strides)[segp::kImageDims]) {
  for (int d = 0; d < segp::kImageDims; ++d) {
    strides[d] = stride_of("dpgd_step", argument, array, d);
  }
}

segp::Shape shape_of(const py::array& array) {
  static_assert(sizeof(py::ssize_t) == sizeof(int64_t), "NumPy's sizes are the kernels'");
  return {reinterpret_cast<const int64_t*>(array.shape()), static_cast<size_t>(array.ndim())};
}

segp::ChannelValues channel_values(const std::vector<double>& values) {
  return {values.data(), static_cast<int64_t>(values.size())};
}

py::array dpgd_step(const py::array& x, const py::array& grad, const py::array& seed,
                    const std::vector<double>& step_size, const std::vector<double>& epsilon,
                    const std::vector<double>& lower, const std::vector<double>& upper) {
  constexpr const char* kOp = "dpgd_step";
  segp::DpgdParams params;
  segp::set_size(params, kOp, shape_of(x));
  segp::check_size(params, kOp, "grad", shape_of(grad));
  segp::check_size(params, kOp, "seed", shape_of(seed));
  params.dtype = dtype_of(kOp, "x", x);
  params.grad_dtype = dtype_of(kOp, "grad", grad);
  if (dtype_of(kOp, "seed", seed) != params.dtype) {
    throw py::type_error("dpgd_step: seed must have the dtype of x");
  }
  py::array out(x.dtype(), std::vector<py::ssize_t>(x.shape(), x.shape() + x.ndim()));
  params.x = x.data();
  params.grad = grad.data();
  params.seed = seed.data();
  params.out = out.mutable_data();
  copy_strides("x", x, params.x_stride);
  copy_strides("grad", grad, params.grad_stride);
  copy_strides("seed", seed, params.seed_stride);
  copy_strides("out", out, params.out_stride);
  params.step_size = channel_values(step_size);
  params.epsilon = channel_values(epsilon);
  params.lower = channel_values(lower);
  params.upper = channel_values(upper);
  segp::check(params, kOp);
  {
    const py::gil_scoped_release unlocked;
    segp::cpu::dpgd_step(params);
  }
  return out;
}

segp::MatrixRef matrix(const char* op, const char* argument, const py::array& array) {
  segp::check_matrix(op, argument, shape_of(array));
  return {array.data(),   dtype_of(op, argument, array),     array.shape(0),
          array.shape(1), stride_of(op, argument, array, 0), stride_of(op, argument, array, 1)};
}

// A class per row of a matrix. Returns how many there are.
int64_t target_count(const char* op, const py::array& target) {
  if (target.ndim() != 1) {
    segp::fail(op, "target", "must be a vector");
  }
  return target.shape(0);
}

py::array result(segp::DType dtype, const std::vector<py::ssize_t>& shape) {
  return dtype == segp::DType::kFloat64 ? py::array(py::array_t<double>(shape)) : py::array(py::array_t<float>(shape));
}

py::tuple dual_target_loss(const py::array& embedding, const py::array& feature, const py::array& text,
                           const py::array& prototypes, const py::array_t<int64_t>& target, double logit_scale,
                           double visual_weight) {
  constexpr const char* kOp = "dual_target_loss";
  segp::DualTargetParams params{};
  params.embedding = matrix(kOp, "embedding", embedding);
  params.feature = matrix(kOp, "feature", feature);
  params.text = matrix(kOp, "text", text);
  params.prototypes = matrix(kOp, "prototypes", prototypes);
  const int64_t targets = target_count(kOp, target);
  params.target = target.data();
  params.target_stride = stride_of(kOp, "target", target, 0);
  params.logit_scale = logit_scale;
  params.visual_weight = visual_weight;
  segp::check(params, targets);
  const segp::DType dtype = segp::result_dtype(params);
  py::array loss = result(dtype, {params.embedding.rows});
  py::array grad_embedding = result(dtype, {params.embedding.rows, params.embedding.cols});
  py::array grad_feature = result(dtype, {params.feature.rows, params.feature.cols});
  params.loss = loss.mutable_data();
  params.grad_embedding = grad_embedding.mutable_data();
  params.grad_feature = grad_feature.mutable_data();
  {
    const py::gil_scoped_release unlocked;
    segp::cpu::dual_target_loss(params);
  }
  return py::make_tuple(loss, grad_embedding, grad_feature);
}

py::tuple geometry_distill(const py::array& student, const py::array& student_text, const py::array& teacher,
                           const py::array& teacher_text, double logit_scale, double temperature) {
  constexpr const char* kOp = "geometry_distill";
  segp::DistillParams params{};
  params.student = matrix(kOp, "student", student);
  params.student_text = matrix(kOp, "student_text", student_text);
  params.teacher = matrix(kOp, "teacher", teacher);
  params.teacher_text = matrix(kOp, "teacher_text", teacher_text);
  params.logit_scale = logit_scale;
  params.temperature = temperature;
  segp::check(params);
  const segp::DType dtype = segp::result_dtype(params);
  py::array loss = result(dtype, {});
  py::array grad_student = result(dtype, {params.student.rows, params.student.cols});
  py::array grad_text = result(dtype, {params.student_text.rows, params.student_text.cols});
  params.loss = loss.mutable_data();
  params.grad_student = grad_student.mutable_data();
  params.grad_student_text = grad_text.mutable_data();
  {
    const py::gil_scoped_release unlocked;
    segp::cpu::geometry_distill(params);
  }
  return py::make_tuple(loss, grad_student, grad_text);
}

// Prototypes, and the features of anchors before and after a task.
template <typename Params>
void set_anchors(const char* op, Params& params, const py::array& prototypes, const py::array& before,
                 const py::array& after) {
  params.prototypes = matrix(op, "prototypes", prototypes);
  params.before = matrix(op, "before", before);
  params.after = matrix(op, "after", after);
}

py::tuple prototype_drift(const py::array& prototypes, const py::array& before, const py::array& after,
                          double temperature) {
  constexpr const char* kOp = "prototype_drift";
  segp::DriftParams params{};
  set_anchors(kOp, params, prototypes, before, after);
  params.temperature = temperature;
  segp::check(params);
  const segp::DType dtype = segp::result_dtype(params);
  py::array drift = result(dtype, {params.prototypes.rows, params.prototypes.cols});
  py::array proximity = result(dtype, {params.prototypes.rows});
  params.drift = drift.mutable_data();
  params.proximity = proximity.mutable_data();
  {
    const py::gil_scoped_release unlocked;
    segp::cpu::prototype_drift(params);
  }
  return py::make_tuple(drift, proximity);
}

py::array prototype_transfer(const py::array& prototypes, const py::array& before, const py::array& after,
                             const py::array_t<int64_t>& target) {
  constexpr const char* kOp = "prototype_transfer";
  segp::TransferParams params{};
  set_anchors(kOp, params, prototypes, before, after);
  segp::check(params, target_count(kOp, target));
  const int64_t stride = stride_of(kOp, "target", target, 0);
  segp::check_range(kOp, target.data(), params.before.rows, stride, params.prototypes.rows);
  const segp::DType dtype = segp::result_dtype(params);
  py::array moved = result(dtype, {params.prototypes.rows, params.prototypes.cols});
  params.result = moved.mutable_data();
  {
    const py::gil_scoped_release unlocked;
    segp::cpu::prototype_transfer(params, target.data(), stride);
  }
  return moved;
}

}  // namespace

PYBIND11_MODULE(segp_numpy, module) {
  module.doc() = "CPU kernels of segp_ext over NumPy arrays.";
  py::register_local_exception_translator([](std::exception_ptr thrown) {
    try {
      std::rethrow_exception(thrown);
    } catch (const segp::OpError& error) {
      PyErr_SetString(PyExc_ValueError, error.what());
    }
  });
  module.def("dpgd_step", &dpgd_step, py::arg("x"), py::arg("grad"), py::arg("seed"), py::kw_only(),
             py::arg("step_size"), py::arg("epsilon"), py::arg("lower") = std::vector<double>{0.0},
             py::arg("upper") = std::vector<double>{1.0},
             "clip(project(x - step_size * sign(grad)), lower, upper); the bounds are lists of 1 or C numbers.");
  module.def(
      "dual_target_loss", &dual_target_loss, py::arg("embedding"), py::arg("feature"), py::arg("text"),
      py::arg("prototypes"), py::arg("target"), py::kw_only(), py::arg("logit_scale"), py::arg("visual_weight"),
      "-log softmax(s cos(embedding, text))[target] + weight (1 - cos(feature, prototypes[target])): the loss per "
      "row, and its gradients with respect to embedding and feature.");
  module.def("geometry_distill", &geometry_distill, py::arg("student"), py::arg("student_text"), py::arg("teacher"),
             py::arg("teacher_text"), py::kw_only(), py::arg("logit_scale"), py::arg("temperature"),
             "tau^2 mean KL(teacher || student) of softmax(s/tau cos): the loss, and its gradients with respect to "
             "student and student_text.");
  module.def("prototype_drift", &prototype_drift, py::arg("prototypes"), py::arg("before"), py::arg("after"),
             py::kw_only(), py::arg("temperature"),
             "The anchors' drift, weighted by softmax(cos/tau), around each prototype, and their proximity to it.");
  module.def(
      "prototype_transfer", &prototype_transfer, py::arg("prototypes"), py::arg("before"), py::arg("after"),
      py::arg("target"),
      "Unit prototypes, moved by the mean of cos(before, prototype) (unit(after) - unit(before)) over the anchors of "
      "their class; target has the class of each.");
}
