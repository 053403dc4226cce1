#include "unit_rows.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "isa.h"
#include "segp/half.h"
#include "segp/parallel.h"
#include "vector_math.h"

namespace segp {
namespace cpu {
namespace {

// Elements that a thread should have to work on, at least.
constexpr int64_t kGrain = 128 * 1024;

int64_t row_grain(int64_t width) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, width)); }

struct NormsKernel {
  // inverse[i] = 1 / |row i|; *all_in_range becomes false if a norm is outside of the range for direct use.
  template <class T>
  SEGP_ALWAYS_INLINE static void run(const T* data, int64_t row_stride, int64_t width, T* inverse,
                                     std::atomic<bool>* all_in_range, int64_t begin, int64_t end) {
    bool in_range = true;
    for (int64_t i = begin; i < end; ++i) {
      const T* row = data + i * row_stride;
      const T norm = std::sqrt(dot(row, row, width));
      // NaN may pass: it comes out of the products as it would out of unit vectors.
      in_range = in_range && (is_usual_norm(norm) || norm != norm);
      inverse[i] = T(1) / norm;
    }
    if (!in_range) {
      *all_in_range = false;
    }
  }
};

struct ConvertKernel {
  template <class S, class T>
  SEGP_ALWAYS_INLINE static void run(const S* source, int64_t stride, int64_t width, T* destination) {
    if (stride == 1) {
      for (int64_t k = 0; k < width; ++k) {
        destination[k] = static_cast<T>(load_value(source[k]));
      }
    } else {
      for (int64_t k = 0; k < width; ++k) {
        destination[k] = static_cast<T>(load_value(source[k * stride]));
      }
    }
  }
};

struct NormaliseKernel {
  // As normalise_row.
  template <class T>
  SEGP_ALWAYS_INLINE static double run(T* row, int64_t width) {
    double norm = std::sqrt(static_cast<double>(dot(row, row, width)));
    T factor = T(1);
    if (!is_usual_norm(norm)) {
      // Squares overflow or vanish. First bring the row near 1, by a power of two in one or two exact steps.
      const T most = largest_magnitude(row, width);
      if (most == T(0)) {
        return 0.0;
      }
      if (std::isfinite(most)) {
        int exponent = 0;
        (void)std::frexp(most, &exponent);
        for (int64_t k = 0; k < width; ++k) {
          row[k] = std::ldexp(row[k], -exponent);
        }
        const double scaled = std::sqrt(static_cast<double>(dot(row, row, width)));
        factor = static_cast<T>(1.0 / scaled);
        for (int64_t k = 0; k < width; ++k) {
          row[k] *= factor;
        }
        return std::ldexp(1.0 / scaled, -exponent);
      }
      norm = static_cast<double>(most);  // NaN or infinity: so is the result
    }
    factor = static_cast<T>(1.0 / norm);
    for (int64_t k = 0; k < width; ++k) {
      row[k] *= factor;
    }
    return 1.0 / norm;
  }
};

struct ProjectKernel {
  // sum -= unit (unit . sum), then times rest; unit = scale * row.
  template <class T>
  SEGP_ALWAYS_INLINE static void run(const T* row, T scale, double rest, int64_t width, T* sum) {
    const T along = scale * scale * dot(row, sum, width);
    if (rest == 1.0) {
      for (int64_t k = 0; k < width; ++k) {
        sum[k] -= row[k] * along;
      }
    } else {
      for (int64_t k = 0; k < width; ++k) {
        sum[k] = static_cast<T>(static_cast<double>(sum[k] - row[k] * along) * rest);
      }
    }
  }
};

struct SubtractKernel {
  template <class A, class B, class T>
  SEGP_ALWAYS_INLINE static void run(const A* minuend, int64_t a_stride, const B* subtrahend, int64_t b_stride,
                                     int64_t width, T* destination) {
    if (a_stride == 1 && b_stride == 1) {
      for (int64_t k = 0; k < width; ++k) {
        destination[k] = static_cast<T>(load_value(minuend[k])) - static_cast<T>(load_value(subtrahend[k]));
      }
    } else {
      for (int64_t k = 0; k < width; ++k) {
        destination[k] =
            static_cast<T>(load_value(minuend[k * a_stride])) - static_cast<T>(load_value(subtrahend[k * b_stride]));
      }
    }
  }
};

}  // namespace

template <class T>
UnitRows<T>::UnitRows(const MatrixRef& matrix, int64_t block_rows)
    : matrix_(matrix),
      direct_(has_plain_rows<T>(matrix)),
      block_rows_(std::min(matrix.rows, block_rows)),
      scale_(matrix.rows),
      inverse_norm_(0),
      block_(0) {
  if (direct_) {
    std::atomic<bool> all_in_range{true};
    parallel_for(matrix_.rows, row_grain(matrix_.cols), [&](int64_t begin, int64_t end) {
      run_for_isa<NormsKernel>(static_cast<const T*>(matrix_.data), matrix_.row_stride, matrix_.cols, scale_.data(),
                               &all_in_range, begin, end);
    });
    direct_ = all_in_range;
  }
  if (!direct_) {
    std::fill_n(scale_.data(), matrix_.rows, T(1));
    inverse_norm_ = Buffer<double>(matrix_.rows);
    block_ = Buffer<T>(block_rows_ * matrix_.cols);
  }
}

template <class T>
GemmMatrix<const T> UnitRows<T>::rows(int64_t begin, int64_t end) {
  const int64_t width = matrix_.cols;
  if (direct_) {
    const int64_t stride = matrix_.rows <= 1 ? std::max<int64_t>(width, 1) : matrix_.row_stride;
    return {static_cast<const T*>(matrix_.data) + begin * matrix_.row_stride, end - begin, width, stride, 1};
  }
  if (begin != begin_ || end != end_) {
    T* block = block_.data();
    convert_rows(matrix_, begin, end, block);
    parallel_for(end - begin, row_grain(width), [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        inverse_norm_[begin + i] = normalise_row(block + i * width, width);
      }
    });
    begin_ = begin;
    end_ = end;
  }
  return {block_.data(), end - begin, width, std::max<int64_t>(width, 1), 1};
}

int64_t cached_rows(int64_t width, int64_t element_size) {
  constexpr int64_t kBytes = 1 << 20;
  return std::max<int64_t>(1, kBytes / std::max<int64_t>(1, width * element_size));
}

int64_t rows_together(int64_t rows, int64_t row_bytes, int64_t limit, int64_t width, int64_t element_size) {
  constexpr int64_t kCacheTile = 4 << 20;
  constexpr int64_t kGoodRows = 512;
  row_bytes = std::max<int64_t>(1, row_bytes);
  int64_t wanted = std::max(kCacheTile / row_bytes, std::min(kGoodRows, limit / row_bytes));
  wanted = std::max<int64_t>(1, std::min(wanted, 4 * cached_rows(width, element_size)));
  const int64_t blocks = std::max<int64_t>(1, (rows + wanted - 1) / wanted);
  return (rows + blocks - 1) / blocks;
}

template <class T>
void multiply_by_rows(const GemmMatrix<const T>& rows, UnitRows<T>& classes, const GemmMatrix<T>& out) {
  for (int64_t begin = 0; begin < classes.count(); begin += classes.block_rows()) {
    const int64_t end = std::min(classes.count(), begin + classes.block_rows());
    gemm(rows, classes.rows(begin, end).transposed(), out.columns(begin, end), false);
  }
}

template <class T>
void project_gradient(UnitRows<T>& rows, int64_t begin, int64_t end, T* sum) {
  const int64_t width = rows.width();
  for (int64_t first_row = begin; first_row < end; first_row += rows.block_rows()) {
    const GemmMatrix<const T> block = rows.rows(first_row, std::min(end, first_row + rows.block_rows()));
    parallel_for(block.rows, row_grain(width), [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const int64_t row = first_row + i;
        run_for_isa<ProjectKernel>(block.data + i * block.row_stride, rows.scale()[row], rows.rest(row), width,
                                   sum + row * width);
      }
    });
  }
}

template <class T>
double normalise_row(T* row, int64_t width) {
  return run_for_isa<NormaliseKernel>(row, width);
}

template <class T>
double unit_row(const MatrixRef& matrix, int64_t row, T* destination) {
  convert_rows(matrix, row, row + 1, destination);
  return normalise_row(destination, matrix.cols);
}

template <class T>
void convert_rows(const MatrixRef& matrix, int64_t begin, int64_t end, T* destination) {
  const int64_t width = matrix.cols;
  visit_dtype(matrix.dtype, [&](auto tag) {
    using S = typename decltype(tag)::type;
    parallel_for(end - begin, row_grain(width), [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        run_for_isa<ConvertKernel>(static_cast<const S*>(matrix.data) + (begin + i) * matrix.row_stride,
                                   matrix.col_stride, width, destination + i * width);
      }
    });
  });
}

template <class T>
void subtract_rows(const MatrixRef& minuend, const MatrixRef& subtrahend, int64_t begin, int64_t end, T* destination) {
  const int64_t width = minuend.cols;
  visit_dtype(minuend.dtype, [&](auto minuend_tag) {
    visit_dtype(subtrahend.dtype, [&](auto subtrahend_tag) {
      using A = typename decltype(minuend_tag)::type;
      using B = typename decltype(subtrahend_tag)::type;
      parallel_for(end - begin, row_grain(width), [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
          run_for_isa<SubtractKernel>(static_cast<const A*>(minuend.data) + (begin + i) * minuend.row_stride,
                                      minuend.col_stride,
                                      static_cast<const B*>(subtrahend.data) + (begin + i) * subtrahend.row_stride,
                                      subtrahend.col_stride, width, destination + i * width);
        }
      });
    });
  });
}

template class UnitRows<float>;
template class UnitRows<double>;
template void multiply_by_rows(const GemmMatrix<const float>&, UnitRows<float>&, const GemmMatrix<float>&);
template void multiply_by_rows(const GemmMatrix<const double>&, UnitRows<double>&, const GemmMatrix<double>&);
template void project_gradient(UnitRows<float>&, int64_t, int64_t, float*);
template void project_gradient(UnitRows<double>&, int64_t, int64_t, double*);
template double normalise_row(float*, int64_t);
template double normalise_row(double*, int64_t);
template double unit_row(const MatrixRef&, int64_t, float*);
template double unit_row(const MatrixRef&, int64_t, double*);
template void convert_rows(const MatrixRef&, int64_t, int64_t, float*);
template void convert_rows(const MatrixRef&, int64_t, int64_t, double*);
template void subtract_rows(const MatrixRef&, const MatrixRef&, int64_t, int64_t, float*);
template void subtract_rows(const MatrixRef&, const MatrixRef&, int64_t, int64_t, double*);

}  // namespace cpu
}  // namespace segp
