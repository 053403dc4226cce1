// Checks at the boundary to torch that need a tensor; those that do not are in csrc/include/segp. Python has already
// told the user what is wrong in Python's terms; these protect memory when an op is called through torch.ops directly.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include "segp/contract.h"
#include "segp/dtype.h"

// torch's own check, newer than torch 2.11, also says what went wrong.
#ifndef STABLE_TORCH_ERROR_CODE_CHECK
#define STABLE_TORCH_ERROR_CODE_CHECK(call) TORCH_ERROR_CODE_CHECK(call)
#endif

namespace segp {

// Of a tensor that outlives it.
Shape shape_of(const torch::stable::Tensor& tensor);

DType dtype_of(const char* op, const char* argument, const torch::stable::Tensor& tensor);

// The same for torch.
torch::headeronly::ScalarType scalar_type(DType dtype);

void check_device(const char* op, const char* argument, const torch::stable::Tensor& tensor, const char* like_name,
                  const torch::stable::Tensor& like);

// Refuses a tensor of which some elements share memory (an expanded one, say): writing it would be a race.
void check_no_internal_overlap(const char* op, const char* argument, const torch::stable::Tensor& tensor);

// `written` and `read` must be the same view, or share no memory. Views that interleave within one range of
// memory are refused too: telling them apart is not worth its time.
void check_no_partial_overlap(const char* op, const char* written_name, const torch::stable::Tensor& written,
                              const char* read_name, const torch::stable::Tensor& read);

}  // namespace segp
