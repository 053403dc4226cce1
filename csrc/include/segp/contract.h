// What several ops ask of their arguments, and how they say that they did not get it.
//
// An op's own rules stand in its header, below its params, as check(params). A binding fills the params in, and calls
// it before anything reads them. Kernels do not look again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>

#include "segp/matrix.h"
#include "segp/scalars.h"

namespace segp {

// What an op refuses: "<op>: <argument> <complaint>".
class OpError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

[[noreturn]] inline void fail(const char* op, const char* argument, const std::string& complaint) {
  throw OpError(std::string(op) + ": " + argument + " " + complaint);
}

// The shape of an argument of any number of axes.
struct Shape {
  const int64_t* sizes;  // [dims]
  size_t dims;
};

// "[2, 3, 4]"
inline std::string text_of(const Shape& shape) {
  std::string text = "[";
  for (size_t d = 0; d < shape.dims; ++d) {
    text += (d > 0 ? ", " : "") + std::to_string(shape.sizes[d]);
  }
  return text + "]";
}

inline std::string text_of(const MatrixRef& matrix) {
  const int64_t sizes[] = {matrix.rows, matrix.cols};
  return text_of(Shape{sizes, 2});
}

inline std::string text_of(double number) {
  char text[32];
  std::snprintf(text, sizeof(text), "%g", number);
  return text;
}

inline void check_matrix(const char* op, const char* argument, const Shape& shape) {
  if (shape.dims != 2) {
    fail(op, argument, "must be a matrix; got " + text_of(shape));
  }
}

struct NamedMatrix {
  const char* name;
  const MatrixRef& matrix;
};

// As many columns as another matrix.
inline void check_width(const char* op, const NamedMatrix& got, const NamedMatrix& like) {
  if (got.matrix.cols != like.matrix.cols) {
    fail(op, got.name,
         std::string("must have the width of ") + like.name + ", " + std::to_string(like.matrix.cols) + "; got " +
             text_of(got.matrix));
  }
}

// As many rows as another matrix.
inline void check_rows(const char* op, const NamedMatrix& got, const NamedMatrix& like) {
  if (got.matrix.rows != like.matrix.rows) {
    fail(op, got.name,
         std::string("must have a row per row of ") + like.name + ", " + std::to_string(like.matrix.rows) + "; got " +
             text_of(got.matrix));
  }
}

// The same shape as another matrix; `axes` says which, as in "[B, De]".
inline void check_same_shape(const char* op, const NamedMatrix& got, const NamedMatrix& like, const char* axes) {
  if (got.matrix.rows != like.matrix.rows || got.matrix.cols != like.matrix.cols) {
    fail(op, got.name,
         std::string("must be ") + axes + " like " + like.name + "; got " + text_of(got.matrix) + " and " +
             text_of(like.matrix));
  }
}

// Prototypes [C, Dr], and the features of anchors before and after a task, both [A, Dr].
template <class Params>
void check_anchors(const char* op, const Params& params) {
  check_width(op, {"before", params.before}, {"prototypes", params.prototypes});
  check_same_shape(op, {"after", params.after}, {"before", params.before}, "[A, Dr]");
}

// As many classes in `target` as there are rows; `each` is what a row is.
inline void check_target(const char* op, int64_t count, int64_t rows, const char* each) {
  if (count != rows) {
    fail(op, "target",
         "must be [" + std::to_string(rows) + "], one class per " + each + "; got [" + std::to_string(count) + "]");
  }
}

// Rows have targets, so there must be a class that they can have: a row of `classes`.
inline void check_has_class(const char* op, const NamedMatrix& classes, int64_t rows) {
  if (rows > 0 && classes.matrix.rows == 0) {
    fail(op, classes.name, "must have at least one class; got " + text_of(classes.matrix));
  }
}

// `target` [count], elements `stride` apart, in memory that can be looked at: all in [0, classes).
inline void check_range(const char* op, const int64_t* target, int64_t count, int64_t stride, int64_t classes) {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t c = target[i * stride];
    if (c < 0 || c >= classes) {
      fail(op, "target",
           "must be in [0, " + std::to_string(classes) + "); got " + std::to_string(c) + " at index " +
               std::to_string(i));
    }
  }
}

// From `minimum` to kLargestScalar; not NaN.
inline void check_scalar(const char* op, const char* argument, double value, double minimum) {
  if (!(value >= minimum && value <= kLargestScalar)) {
    fail(op, argument,
         "must be from " + text_of(minimum) + " to " + text_of(kLargestScalar) + "; got " + text_of(value));
  }
}

}  // namespace segp
