#include "checks.h"

#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace segp {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

namespace {

// The bytes from the first to the last element: [begin, end), empty for an empty tensor.
std::pair<uintptr_t, uintptr_t> memory_range(const Tensor& tensor) {
  const auto begin = reinterpret_cast<uintptr_t>(tensor.data_ptr());
  if (tensor.numel() == 0) {
    return {begin, begin};
  }
  const auto sizes = tensor.sizes();
  const auto strides = tensor.strides();
  int64_t last = 0;
  for (size_t d = 0; d < sizes.size(); ++d) {
    last += (sizes[d] - 1) * strides[d];  // torch has no negative strides
  }
  return {begin, begin + static_cast<uintptr_t>(last + 1) * tensor.element_size()};
}

bool same_strides(const Tensor& a, const Tensor& b) {
  const auto sizes = a.sizes();
  const auto a_strides = a.strides();
  const auto b_strides = b.strides();
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (sizes[d] > 1 && a_strides[d] != b_strides[d]) {
      return false;
    }
  }
  return true;
}

}  // namespace

Shape shape_of(const Tensor& tensor) {
  const auto sizes = tensor.sizes();
  return {sizes.data(), sizes.size()};
}

DType dtype_of(const char* op, const char* argument, const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return DType::kFloat32;
    case ScalarType::Double:
      return DType::kFloat64;
    case ScalarType::Half:
      return DType::kFloat16;
    case ScalarType::BFloat16:
      return DType::kBFloat16;
    default:
      fail(op, argument, "must be float32, float64, float16 or bfloat16");
  }
}

ScalarType scalar_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return ScalarType::Double;
    case DType::kFloat16:
      return ScalarType::Half;
    case DType::kBFloat16:
      return ScalarType::BFloat16;
    case DType::kFloat32:
      break;
  }
  return ScalarType::Float;
}

void check_device(const char* op, const char* argument, const Tensor& tensor, const char* like_name,
                  const Tensor& like) {
  if (tensor.is_cpu() != like.is_cpu() || tensor.get_device_index() != like.get_device_index()) {
    fail(op, argument, std::string("must be on the device of ") + like_name);
  }
}

void check_no_internal_overlap(const char* op, const char* argument, const Tensor& tensor) {
  const auto sizes = tensor.sizes();
  const auto strides = tensor.strides();
  std::vector<std::pair<int64_t, int64_t>> axes;  // stride, size
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (sizes[d] == 0) {
      return;
    }
    if (sizes[d] > 1) {
      axes.emplace_back(strides[d], sizes[d]);
    }
  }
  std::sort(axes.begin(), axes.end());
  int64_t reach = 1;  // elements spanned by the axes so far
  for (const auto& [stride, size] : axes) {
    if (stride < reach) {
      fail(op, argument, "is written in place, but some of its elements share memory; pass a clone() of it");
    }
    reach += (size - 1) * stride;
  }
}

void check_no_partial_overlap(const char* op, const char* written_name, const Tensor& written, const char* read_name,
                              const Tensor& read) {
  const auto target = memory_range(written);
  const auto source = memory_range(read);
  if (target.second <= source.first || source.second <= target.first) {
    return;
  }
  if (target.first == source.first && written.scalar_type() == read.scalar_type() && same_strides(written, read)) {
    return;
  }
  fail(op, written_name,
       std::string("is written in place and shares memory with ") + read_name + "; pass " + read_name + ".clone()");
}

}  // namespace segp
