// NumPy bindings of the CPU kernels, for use and tests without torch. Built by CMake only.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "segp/dpgd.h"

namespace py = pybind11;

namespace {

segp::DType dtype_of(const char* argument, const py::array& array) {
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
  throw py::type_error(std::string("dpgd_step: ") + argument + " must be float16, float32 or float64");
}

void copy_strides(const char* argument, const py::array& array, int64_t (&strides)[segp::kImageDims]) {
  for (int d = 0; d < segp::kImageDims; ++d) {
    if (array.strides(d) % array.itemsize() != 0) {
      throw py::value_error(std::string("dpgd_step: ") + argument + " has strides that split its elements");
    }
    strides[d] = array.strides(d) / array.itemsize();
  }
}

void check_values(const char* argument, const std::vector<double>& values, int64_t channels, bool may_be_negative) {
  const auto count = static_cast<int64_t>(values.size());
  const bool sound = std::all_of(values.begin(), values.end(), [&](double value) {
    return std::isfinite(value) && (value >= 0 || may_be_negative);
  });
  if ((count != 1 && count != channels) || !sound) {
    throw py::value_error(std::string("dpgd_step: ") + argument + " must have 1 or C finite values" +
                          (may_be_negative ? "" : " >= 0"));
  }
}

segp::ChannelValues channel_values(const std::vector<double>& values) {
  return {values.data(), static_cast<int64_t>(values.size())};
}

py::array dpgd_step(const py::array& x, const py::array& grad, const py::array& seed,
                    const std::vector<double>& step_size, const std::vector<double>& epsilon,
                    const std::vector<double>& lower, const std::vector<double>& upper) {
  if (x.ndim() != segp::kImageDims) {
    throw py::value_error("dpgd_step: x must be [B, C, H, W]");
  }
  const std::vector<py::ssize_t> shape(x.shape(), x.shape() + x.ndim());
  for (const auto& [name, array] : {std::pair{"grad", &grad}, std::pair{"seed", &seed}}) {
    if (array->ndim() != x.ndim() || !std::equal(shape.begin(), shape.end(), array->shape())) {
      throw py::value_error(std::string("dpgd_step: ") + name + " must have the shape of x");
    }
  }
  py::array out(x.dtype(), shape);
  segp::DpgdParams params;
  params.dtype = dtype_of("x", x);
  params.grad_dtype = dtype_of("grad", grad);
  if (dtype_of("seed", seed) != params.dtype) {
    throw py::type_error("dpgd_step: seed must have the dtype of x");
  }
  std::copy(shape.begin(), shape.end(), params.size);
  check_values("step_size", step_size, params.size[1], false);
  check_values("epsilon", epsilon, params.size[1], false);
  check_values("lower", lower, params.size[1], true);
  check_values("upper", upper, params.size[1], true);
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
  for (int64_t c = 0; c < std::max(params.lower.count, params.upper.count); ++c) {
    if (params.lower.at(c) > params.upper.at(c)) {
      throw py::value_error("dpgd_step: lower must be <= upper");
    }
  }
  {
    const py::gil_scoped_release unlocked;
    segp::cpu::dpgd_step(params);
  }
  return out;
}

}  // namespace

PYBIND11_MODULE(segp_numpy, module) {
  module.doc() = "CPU kernels of segp_ext over NumPy arrays.";
  module.def("dpgd_step", &dpgd_step, py::arg("x"), py::arg("grad"), py::arg("seed"), py::kw_only(),
             py::arg("step_size"), py::arg("epsilon"), py::arg("lower") = std::vector<double>{0.0},
             py::arg("upper") = std::vector<double>{1.0},
             "clip(project(x - step_size * sign(grad)), lower, upper); the bounds are lists of 1 or C numbers.");
}
