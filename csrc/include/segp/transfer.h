// The prototypes of old classes, moved along with their own anchors:
//
//   a_x = unit(before_x) . unit(prototypes_c)          for every anchor x of class c = target_x
//   result_c = unit( unit(prototypes_c) + 1/n_c sum_x a_x (unit(after_x) - unit(before_x)) )
//
// n_c counts the anchors of class c; without any, result_c = unit(prototypes_c). A zero row is its own unit vector. An
// anchor that is not finite makes the row of its class NaN, a prototype that is not finite its own row.
//
// Half types and float compute in float, and everything in double as soon as one input is double. Every row of before
// and after comes from memory once. The anchors of a class are added up in the order in which they are given, in pieces
// of kTransferPiece, and the pieces in their order: a row does not depend on the number of threads, nor on the anchors
// of other classes.
#pragma once

#include "segp/contract.h"
#include "segp/matrix.h"

namespace segp {

constexpr int64_t kTransferPiece = 64;  // anchors of one class that are added up one after the other

struct TransferParams {
  MatrixRef prototypes;  // [C, D]
  MatrixRef before;      // [A, D]
  MatrixRef after;       // [A, D]

  void* result;  // [C, D] in result_dtype(); contiguous, sharing memory with nothing
};

inline DType result_dtype(const TransferParams& params) {
  return compute_dtype({params.prototypes.dtype, params.before.dtype, params.after.dtype});
}

// Throws OpError unless shapes are as said above. `targets` is how many targets there are; it does not look at them.
inline void check(const TransferParams& params, int64_t targets) {
  constexpr const char* kOp = "prototype_transfer";
  check_anchors(kOp, params);
  check_target(kOp, targets, params.before.rows, "anchor");
  check_has_class(kOp, {"prototypes", params.prototypes}, params.before.rows);
}

namespace cpu {

// `target` [A], elements target_stride apart, all in [0, C). The workspace is an integer per anchor, some per class, a
// row per kTransferPiece anchors of a class with more than that, and a few rows per share of the work.
void prototype_transfer(const TransferParams& params, const int64_t* target, int64_t target_stride);

}  // namespace cpu

namespace cuda {

// `order` [A] lists the anchors by class, those of a class in the order in which they are given, and `sorted` [A] their
// classes: target, sorted stably. A class out of [0, C) makes every row of the result NaN, and nothing outside the
// inputs is read.
//
// The matrices must have one dtype and consecutive columns (col_stride 1). `workspace` has at least
// prototype_transfer_workspace bytes of the device's memory, a row per kTransferPiece anchors. Enqueues on `stream` (a
// cudaStream_t) of `device`, the calling thread's current one; does not synchronise. Returns a cudaError_t, 0 for
// success.
int64_t prototype_transfer_workspace(const TransferParams& params);
int prototype_transfer(const TransferParams& params, const int64_t* sorted, const int64_t* order, void* workspace,
                       int device, void* stream);

}  // namespace cuda
}  // namespace segp
