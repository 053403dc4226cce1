#include "segp/transfer.h"

#include <algorithm>
#include <cmath>

#include "isa.h"
#include "segp/buffer.h"
#include "segp/parallel.h"
#include "unit_rows.h"
#include "vector_math.h"

namespace segp {
namespace cpu {
namespace {

// Elements that a share of the work should have, at least; and how many shares there are, at most.
constexpr int64_t kGrain = 32 * 1024;
constexpr int64_t kMostShares = 256;

enum class Use { kNext, kLater, kWrite };

// Asks for the line at `address`, so that it is on its way while something else is worked on: the next into the first
// cache, others into the second, where they are in nobody's way.
template <Use kUse>
SEGP_ALWAYS_INLINE void prefetch(const char* address) {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(address, kUse == Use::kWrite, kUse == Use::kNext ? 3 : 2);
#else
  (void)address;
#endif
}

template <Use kUse>
void prefetch_row(const void* row, int64_t bytes) {
  constexpr int64_t kLine = 64;
  for (int64_t i = 0; i < bytes; i += kLine) {
    prefetch<kUse>(static_cast<const char*>(row) + i);
  }
}

inline const char* row_at(const MatrixRef& matrix, int64_t row) {
  return static_cast<const char*>(matrix.data) + row * matrix.row_stride * size_of(matrix.dtype);
}

// A row that comes later, as it lies in memory.
struct LaterRow {
  const char* data;
  int64_t element_size;

  SEGP_ALWAYS_INLINE const char* at(int64_t i) const { return data + i * element_size; }
};

template <class T>
struct AnchorArgs {
  const T* before;  // [width]
  const T* after;   // [width]
  const T* unit;    // [width] that of the prototype
  T* sum;           // [width] added to
  int64_t width;
  LaterRow later_before;
  LaterRow later_after;
};

// One anchor, both rows plain numbers of type T.
struct AnchorKernel {
  // sum += a (unit(after) - unit(before)). Returns false, and leaves `sum` alone, where a norm is so extreme that
  // squares may have overflowed or vanished, or is not finite.
  //
  // The second pass needs nothing from memory: meanwhile rows that come later are on their way.
  template <class T>
  SEGP_ALWAYS_INLINE static bool run(AnchorArgs<T> args) {
    const T* before = args.before;
    const T* after = args.after;
    T* sum = args.sum;
    constexpr int64_t kBlock = 64;
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
    T along[kLanes] = {};
    T before_square[kLanes] = {};
    T after_square[kLanes] = {};
    for_lanes(args.width, [&](int64_t i, int k) SEGP_INLINE_LAMBDA {
      along[k] += before[i] * args.unit[i];
      before_square[k] += before[i] * before[i];
      after_square[k] += after[i] * after[i];
    });
    const T before_norm = std::sqrt(combine_sum(before_square));
    const T after_norm = std::sqrt(combine_sum(after_square));
    if (!is_usual_norm(before_norm) || !is_usual_norm(after_norm)) {
      return false;
    }
    const T a = combine_sum(along) / before_norm;
    const T before_weight = a / before_norm;
    const T after_weight = a / after_norm;
    int64_t first = 0;
    for (; first + kBlock <= args.width; first += kBlock) {
      for (int64_t k = first; k < first + kBlock; k += kLine) {
        prefetch<Use::kLater>(args.later_before.at(k));
        prefetch<Use::kLater>(args.later_after.at(k));
      }
      SEGP_INDEPENDENT_ITERATIONS
      for (int64_t k = 0; k < kBlock; ++k) {
        sum[first + k] += after_weight * after[first + k] - before_weight * before[first + k];
      }
    }
    for (int64_t k = first; k < args.width; ++k) {
      sum[k] += after_weight * after[k] - before_weight * before[k];
    }
    return true;
  }
};

// As AnchorKernel, of unit (or zero) vectors.
struct UnitAnchorKernel {
  template <class T>
  SEGP_ALWAYS_INLINE static void run(const T* before, const T* after, const T* unit, int64_t width, T* sum) {
    const T a = dot(before, unit, width);
    for (int64_t k = 0; k < width; ++k) {
      sum[k] += a * (after[k] - before[k]);
    }
  }
};

struct AddKernel {
  // sum += added.
  template <class T>
  SEGP_ALWAYS_INLINE static void run(const T* added, int64_t width, T* sum) {
    for (int64_t k = 0; k < width; ++k) {
      sum[k] += added[k];
    }
  }
};

struct MeanKernel {
  // unit += sum / count.
  template <class T>
  SEGP_ALWAYS_INLINE static void run(const T* sum, T count, int64_t width, T* unit) {
    const T share = T(1) / count;
    for (int64_t k = 0; k < width; ++k) {
      unit[k] += sum[k] * share;
    }
  }
};

// Some anchors of one class, [begin, end) of all in the order of their classes.
struct Piece {
  int64_t row;  // the class
  int64_t begin;
  int64_t end;
  int64_t partial;  // the row of `partial_` for its sum; -1 if the class has no other piece
};

// A class of several pieces.
struct Split {
  int64_t row;
  int64_t anchors;
  int64_t first_partial;
};

template <class T>
class Transfer {
 public:
  Transfer(const TransferParams& params, const int64_t* target, int64_t target_stride)
      : params_(params),
        classes_(params.prototypes.rows),
        anchors_(params.before.rows),
        width_(params.prototypes.cols),
        plain_before_(has_plain_rows<T>(params.before)),
        plain_after_(has_plain_rows<T>(params.after)),
        order_(anchors_),
        pieces_(classes_ + anchors_ / kTransferPiece),
        splits_(anchors_ / kTransferPiece) {
    sort(target, target_stride);
    partial_ = Buffer<T>(partials_ * width_);
    const int64_t elements = 2 * (anchors_ + classes_) * width_;
    shares_ = std::max<int64_t>(1, std::min({pieces_count_, elements / kGrain, kMostShares}));
    scratch_ = Buffer<T>(4 * shares_ * width_);
  }

  void run() {
    parallel_for(shares_, 1, [&](int64_t first, int64_t last) {
      T* scratch = scratch_.data() + 4 * first * width_;  // of the first share: no other call has that
      const Piece* end = first_piece(last);
      for (const Piece* piece = first_piece(first); piece != end; ++piece) {
        add_piece(*piece, scratch);
      }
    });
    parallel_for(splits_count_, std::max<int64_t>(1, kGrain / width_), [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        combine(splits_[i], partial_.data() + splits_[i].first_partial * width_);
      }
    });
  }

 private:
  // Lists the anchors by class, as they come within a class, and cuts every class into pieces.
  void sort(const int64_t* target, int64_t target_stride) {
    Buffer<int64_t> place(classes_ + 1);  // of a class's first anchor, then of its next one
    std::fill_n(place.data(), classes_ + 1, int64_t{0});
    for (int64_t i = 0; i < anchors_; ++i) {
      ++place[target[i * target_stride] + 1];
    }
    for (int64_t c = 0; c < classes_; ++c) {
      const int64_t begin = place[c];
      place[c + 1] += begin;
      cut(c, begin, place[c + 1]);
    }
    for (int64_t i = 0; i < anchors_; ++i) {
      order_[place[target[i * target_stride]]++] = i;
    }
  }

  void cut(int64_t row, int64_t begin, int64_t end) {
    const bool is_split = end - begin > kTransferPiece;
    if (is_split) {
      splits_[splits_count_++] = {row, end - begin, partials_};
    }
    do {
      const int64_t piece_end = std::min(end, begin + kTransferPiece);
      pieces_[pieces_count_++] = {row, begin, piece_end, is_split ? partials_++ : int64_t{-1}};
      begin = piece_end;
    } while (begin < end);
  }

  // Shares are equal in anchors, with one more for what a piece costs without any.
  const Piece* first_piece(int64_t share) const {
    const Piece* pieces = pieces_.data();
    const double bound =
        static_cast<double>(anchors_ + pieces_count_) * static_cast<double>(share) / static_cast<double>(shares_);
    return std::partition_point(pieces, pieces + pieces_count_, [&](const Piece& piece) {
      return static_cast<double>(piece.begin + (&piece - pieces)) < bound;
    });
  }

  // The anchors' sum into its partial row, or the whole row of the result. `scratch` has four rows.
  void add_piece(const Piece& piece, T* scratch) {
    const bool is_whole = piece.partial < 0;
    // The unit prototype goes where the result will be: one row less to come from memory.
    T* unit = is_whole ? result(piece.row) : scratch;
    T* sum = is_whole ? scratch + width_ : partial_.data() + piece.partial * width_;
    T* before_row = scratch + 2 * width_;
    T* after_row = scratch + 3 * width_;
    const double inverse_norm = unit_row(params_.prototypes, piece.row, unit);
    if (piece.row + 1 < classes_) {
      const int64_t size = size_of(params_.prototypes.dtype);
      prefetch_row<Use::kLater>(row_at(params_.prototypes, piece.row + 1), width_ * size);
      prefetch_row<Use::kWrite>(result(piece.row + 1), width_ * static_cast<int64_t>(sizeof(T)));
    }
    if (piece.begin == piece.end) {
      // Infinite, or zero: the unit row has a NaN where the infinity was, and now everywhere.
      if (inverse_norm == 0.0) {
        (void)normalise_row(unit, width_);
      }
      return;
    }
    std::fill_n(sum, width_, T(0));
    for (int64_t i = piece.begin; i < piece.end; ++i) {
      const int64_t anchor = order_[i];
      AnchorArgs<T> args;
      args.before = row_of(params_.before, plain_before_, anchor, before_row);
      args.after = row_of(params_.after, plain_after_, anchor, after_row);
      args.unit = unit;
      args.sum = sum;
      args.width = width_;
      args.later_before = later(params_.before, i + 2);
      args.later_after = later(params_.after, i + 2);
      // The first line of the next row has the processor foresee the others.
      prefetch<Use::kNext>(later(params_.before, i + 1).data);
      prefetch<Use::kNext>(later(params_.after, i + 1).data);
      if (!run_for_isa<AnchorKernel>(args)) {
        (void)unit_row(params_.before, anchor, before_row);
        (void)unit_row(params_.after, anchor, after_row);
        run_for_isa<UnitAnchorKernel>(before_row, after_row, unit, width_, sum);
      }
    }
    if (is_whole) {
      finish(sum, piece.end - piece.begin, unit);
    }
  }

  void combine(const Split& split, T* sum) {
    const int64_t pieces = (split.anchors + kTransferPiece - 1) / kTransferPiece;
    for (int64_t i = 1; i < pieces; ++i) {
      run_for_isa<AddKernel>(sum + i * width_, width_, sum);
    }
    (void)unit_row(params_.prototypes, split.row, result(split.row));
    finish(sum, split.anchors, result(split.row));
  }

  // From the unit prototype to the result, in place.
  void finish(const T* sum, int64_t count, T* unit) {
    run_for_isa<MeanKernel>(sum, static_cast<T>(count), width_, unit);
    (void)normalise_row(unit, width_);
  }

  T* result(int64_t row) const { return static_cast<T*>(params_.result) + row * width_; }

  // The row where it lies, or converted.
  const T* row_of(const MatrixRef& matrix, bool is_plain, int64_t row, T* scratch) const {
    if (is_plain) {
      return plain_row<T>(matrix, row);
    }
    convert_rows(matrix, row, row + 1, scratch);
    return scratch;
  }

  // The row of the anchor at `place` in the order, or of the last one.
  LaterRow later(const MatrixRef& matrix, int64_t place) const {
    return {row_at(matrix, order_[std::min(place, anchors_ - 1)]), size_of(matrix.dtype)};
  }

  const TransferParams& params_;
  int64_t classes_;
  int64_t anchors_;
  int64_t width_;
  bool plain_before_;
  bool plain_after_;
  Buffer<int64_t> order_;  // [A]
  Buffer<Piece> pieces_;
  Buffer<Split> splits_;
  int64_t pieces_count_ = 0;
  int64_t splits_count_ = 0;
  int64_t partials_ = 0;
  Buffer<T> partial_{0};  // [partials, D]
  int64_t shares_ = 1;
  Buffer<T> scratch_{0};  // [4 * shares, D]
};

}  // namespace

void prototype_transfer(const TransferParams& params, const int64_t* target, int64_t target_stride) {
  if (params.prototypes.rows == 0 || params.prototypes.cols == 0) {
    return;
  }
  if (result_dtype(params) == DType::kFloat64) {
    Transfer<double>(params, target, target_stride).run();
  } else {
    Transfer<float>(params, target, target_stride).run();
  }
}

}  // namespace cpu
}  // namespace segp
