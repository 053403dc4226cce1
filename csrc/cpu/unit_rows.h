// Rows of a matrix as a GEMM wants them, with what turns them into unit vectors.
//
// A matrix that already has the right type and layout is handed to the GEMM as it lies in memory, and the division
// by its rows' norms happens in what surrounds the GEMM: no copy is made of it. Others (half types, odd strides,
// norms so extreme that products could overflow or vanish) are converted and normalised block by block.
#pragma once

#include "segp/buffer.h"
#include "segp/gemm.h"
#include "segp/host_device.h"
#include "segp/matrix.h"

namespace segp {
namespace cpu {

// Norms outside of this range send a matrix through the normalising copy: within it, the dot product of two rows
// neither overflows nor loses digits to subnormal numbers.
template <class T>
SEGP_ALWAYS_INLINE bool is_usual_norm(T norm) {
  return norm >= T(0x1p-40) && norm <= T(0x1p40);
}

// The rows are consecutive numbers of type T, none of which two rows share.
template <class T>
bool has_plain_rows(const MatrixRef& matrix) {
  return matrix.dtype == kDTypeOf<T> && (matrix.col_stride == 1 || matrix.cols <= 1) &&
         (matrix.row_stride >= matrix.cols || matrix.rows <= 1);
}

template <class T>
const T* plain_row(const MatrixRef& matrix, int64_t row) {
  return static_cast<const T*>(matrix.data) + row * matrix.row_stride;
}

// With r a row of the matrix and x what `rows` hands out for it: the unit vector is scale * x, and 1 / |r| is
// scale * rest. Either x is r and scale = 1 / |r|, or x is the unit vector (zero for a zero row).
template <class T>
class UnitRows {
 public:
  // Reads the whole matrix once for its norms. `matrix` must outlive this.
  UnitRows(const MatrixRef& matrix, int64_t block_rows);

  int64_t count() const { return matrix_.rows; }
  int64_t width() const { return matrix_.cols; }
  const T* scale() const { return scale_.data(); }                               // [rows]
  double rest(int64_t row) const { return direct_ ? 1.0 : inverse_norm_[row]; }  // once `rows` has handed it out

  // How many rows `rows` hands out at a time, at most.
  int64_t block_rows() const { return block_rows_; }

  // Rows [begin, end), valid until the next call.
  GemmMatrix<const T> rows(int64_t begin, int64_t end);

 private:
  MatrixRef matrix_;
  bool direct_;
  int64_t block_rows_;
  Buffer<T> scale_;              // [rows]
  Buffer<double> inverse_norm_;  // [rows], 0 for a zero row
  Buffer<T> block_;              // [block_rows, cols], if not direct
  int64_t begin_ = 0;            // the rows that block_ holds
  int64_t end_ = 0;
};

// Rows of a matrix that fit into a processor's own cache, with room for what they are multiplied by.
int64_t cached_rows(int64_t width, int64_t element_size);

// Rows of a tile rows x classes that go through together. Products with few rows are slow, and so is a workspace
// that is far larger than the caches: as many as fit into the caches, or 512 if the limit allows, in blocks of equal
// size. `width` is that of the rows, `row_bytes` what one takes in the tile, `limit` what the tile may take.
int64_t rows_together(int64_t rows, int64_t row_bytes, int64_t limit, int64_t width, int64_t element_size);

// out[i, c] = x_i . y_c, products of rows as they are handed out. `out` is [rows.rows, classes.count()].
template <class T>
void multiply_by_rows(const GemmMatrix<const T>& rows, UnitRows<T>& classes, const GemmMatrix<T>& out);

// Turns sum_i = scale_i * (gradient with respect to unit vector i) into the gradient with respect to row i, in place:
// rest_i * (sum_i - unit_i (unit_i . sum_i)), for rows [begin, end). `sum` is [count, width], contiguous.
template <class T>
void project_gradient(UnitRows<T>& rows, int64_t begin, int64_t end, T* sum);

// Makes the row a unit vector in place (a zero row stays zero); returns 1 / |row|, 0 for a zero row.
template <class T>
double normalise_row(T* row, int64_t width);

// destination = row `row` as a unit vector (zero for a zero row); returns 1 / |row|, 0 for a zero row.
template <class T>
double unit_row(const MatrixRef& matrix, int64_t row, T* destination);

// destination[i, :] = row i of [begin, end), converted; contiguous.
template <class T>
void convert_rows(const MatrixRef& matrix, int64_t begin, int64_t end, T* destination);

// destination[i, :] = row i of `minuend` less that of `subtrahend`, both converted first; contiguous.
template <class T>
void subtract_rows(const MatrixRef& minuend, const MatrixRef& subtrahend, int64_t begin, int64_t end, T* destination);

}  // namespace cpu
}  // namespace segp
