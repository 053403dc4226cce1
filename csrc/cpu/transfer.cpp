#include "segp/transfer.h"

#include <algorithm>
#include <cmath>

#include "segp/buffer.h"
#include "isa.h"
#include "segp/parallel.h"
#include "unit_rows.h"
#include "vector_math.h"

namespace segp {
namespace cpu {
namespace {

// Elements that a share of the work should have, at least; and how many shares there are, at most.
constexpr int64_t kGrain = 32 * 1024;
constexpr int64_t kMostShares = 256;

// Asks for the line at `address`, so that it is on its way into the second cache while something else is worked on.
SEGP_ALWAYS_INLINE void prefetch(const char* address) {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(address, 0, 2);
#else
  (void)address;
#endif
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

// One anchor, both rows plain numbers of type T: what its norms and its likeness to the prototype follow from.
struct ScoresKernel {
  // products = {before . centre, before . before, after . after}. Meanwhile rows that come later are on their way.
  template <class T>
  SEGP_ALWAYS_INLINE static void run(const T* before, const T* after, const T* centre, int64_t width,
                                     const LaterRow& later_before, const LaterRow& later_after, T* products) {
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
    T along[kLanes] = {};
    T before_square[kLanes] = {};
    T after_square[kLanes] = {};
    const auto add = [&](int64_t i, int k) SEGP_INLINE_LAMBDA {
      along[k] += before[i] * centre[i];
      before_square[k] += before[i] * before[i];
      after_square[k] += after[i] * after[i];
    };
    int64_t i = 0;
    for (; i + kLanes <= width; i += kLanes) {
      for (int64_t k = 0; k < kLanes; k += kLine) {
        prefetch(later_before.at(i + k));
        prefetch(later_after.at(i + k));
      }
      for (int k = 0; k < kLanes; ++k) {
        add(i + k, k);
      }
    }
    for (int k = 0; i + k < width; ++k) {
      add(i + k, k);
    }
    products[0] = combine_sum(along);
    products[1] = combine_sum(before_square);
    products[2] = combine_sum(after_square);
  }
};

// So many anchors of a class are used together: their rows are in the first cache then.
constexpr int kTogether = 5;
constexpr int64_t kAhead = 2;  // anchors between the one that is scored and the one that is called for

template <class T>
struct Group {
  const T* before[kTogether];
  const T* after[kTogether];
  T before_weight[kTogether];
  T after_weight[kTogether];
};

template <int kCount>
struct GroupKernel {
  // out = base_scale base + sum_i (after_weight_i after_i - before_weight_i before_i), *square = |out|^2. `out` may be `base`.
  template <class T>
  SEGP_ALWAYS_INLINE static void run(const Group<T>& group, const T* base, T base_scale, int64_t width, T* out,
                                     T* square) {
    constexpr int64_t kBlock = 64 / static_cast<int64_t>(sizeof(T));  // a cache line
    const Group<T> g = group;
    T lane[kBlock] = {};
    const auto add = [&](int64_t i, int64_t k) SEGP_INLINE_LAMBDA {
      T value = base_scale * base[i];
      for (int a = 0; a < kCount; ++a) {
        value += g.after_weight[a] * g.after[a][i] - g.before_weight[a] * g.before[a][i];
      }
      out[i] = value;
      lane[k] += value * value;
    };
    int64_t first = 0;
    for (; first + kBlock <= width; first += kBlock) {
      SEGP_INDEPENDENT_ITERATIONS
      for (int64_t k = 0; k < kBlock; ++k) {
        add(first + k, k);
      }
    }
    for (int64_t k = 0; first + k < width; ++k) {
      add(first + k, k);
    }
    T sum = 0;
    for (const T part : lane) {
      sum += part;
    }
    *square = sum;
  }
};

struct ScaleKernel {
  // out = scale row.
  template <class T>
  SEGP_ALWAYS_INLINE static void run(const T* row, T scale, int64_t width, T* out) {
    SEGP_INDEPENDENT_ITERATIONS
    for (int64_t k = 0; k < width; ++k) {
      out[k] = scale * row[k];
    }
  }
};

struct SquareKernel {
  template <class T>
  SEGP_ALWAYS_INLINE static void run(const T* row, int64_t width, T* square) {
    *square = dot(row, row, width);
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

// For one share of the work: a prototype, what is added up, and both rows of a group's anchors.
constexpr int64_t kScratchRows = 2 + 2 * kTogether;

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
        plain_prototypes_(has_plain_rows<T>(params.prototypes)),
        plain_before_(has_plain_rows<T>(params.before)),
        plain_after_(has_plain_rows<T>(params.after)),
        order_(anchors_),
        pieces_(classes_ + anchors_ / kTransferPiece),
        splits_(anchors_ / kTransferPiece) {
    sort(target, target_stride);
    partial_ = Buffer<T>(partials_ * width_);
    const int64_t elements = 2 * (anchors_ + classes_) * width_;
    shares_ = std::max<int64_t>(1, std::min({pieces_count_, elements / kGrain, kMostShares}));
    scratch_ = Buffer<T>(kScratchRows * shares_ * width_);
  }

  void run() {
    parallel_for(shares_, 1, [&](int64_t first, int64_t last) {
      T* scratch = scratch_.data() + kScratchRows * first * width_;  // of the first share: no other call has that
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
    const double bound = static_cast<double>(anchors_ + pieces_count_) * static_cast<double>(share) /
                         static_cast<double>(shares_);
    return std::partition_point(pieces, pieces + pieces_count_, [&](const Piece& piece) {
      return static_cast<double>(piece.begin + (&piece - pieces)) < bound;
    });
  }

  // The anchors' sum into its partial row, or the whole row of the result. `scratch` has kScratchRows rows.
  void add_piece(const Piece& piece, T* scratch) {
    T* const result_row = result(piece.row);
    if (piece.begin == piece.end) {
      if (unit_row(params_.prototypes, piece.row, result_row) == 0.0) {
        // infinite, or zero: the unit row has a NaN where the infinity was, and now everywhere
        (void)normalise_row(result_row, width_);
      }
      return;
    }
    const bool is_whole = piece.partial < 0;
    T* const converted = scratch + 2 * width_;  // two rows per anchor of a group
    const T* centre = row_of(params_.prototypes, plain_prototypes_, piece.row, scratch);
    T square = 0;
    run_for_isa<SquareKernel>(centre, width_, &square);
    T centre_scale = T(1) / std::sqrt(square);
    if (!is_usual_norm(std::sqrt(square))) {
      (void)unit_row(params_.prototypes, piece.row, scratch);
      centre = scratch;
      centre_scale = T(1);
    }
    if (piece.row + 1 < classes_) {
      constexpr int64_t kLine = 64;
      const char* next = row_at(params_.prototypes, piece.row + 1);
      for (int64_t i = 0; i < width_ * size_of(params_.prototypes.dtype); i += kLine) {
        prefetch(next + i);
      }
    }
    // What is added up begins with the prototype itself, or a partial sum with nothing.
    const T share = is_whole ? T(1) / static_cast<T>(piece.end - piece.begin) : T(1);
    T* const out = is_whole ? scratch + width_ : partial_.data() + piece.partial * width_;
    const T* base = centre;
    T base_scale = is_whole ? centre_scale : T(0);
    for (int64_t first = piece.begin; first < piece.end; first += kTogether) {
      const int count = static_cast<int>(std::min<int64_t>(kTogether, piece.end - first));
      Group<T> group{};
      for (int g = 0; g < count; ++g) {
        score(first + g, centre, centre_scale, share, converted + 2 * g * width_, &group, g);
      }
      add_group(group, count, base, base_scale, out, &square);
      base = out;
      base_scale = T(1);
    }
    if (!is_whole) {
      return;
    }
    const T norm = std::sqrt(square);
    if (is_usual_norm(norm)) {
      run_for_isa<ScaleKernel>(out, T(1) / norm, width_, result_row);
    } else {
      std::copy_n(out, width_, result_row);
      (void)normalise_row(result_row, width_);
    }
  }

  // The rows and weights of the anchor at `place` in the order. `converted` has two rows.
  void score(int64_t place, const T* centre, T centre_scale, T share, T* converted, Group<T>* group, int g) const {
    const int64_t anchor = order_[place];
    const T* before = row_of(params_.before, plain_before_, anchor, converted);
    const T* after = row_of(params_.after, plain_after_, anchor, converted + width_);
    T sums[3];
    T* const products = sums;
    run_for_isa<ScoresKernel>(before, after, centre, width_, later(params_.before, place + kAhead),
                              later(params_.after, place + kAhead), products);
    const T before_norm = std::sqrt(products[1]);
    const T after_norm = std::sqrt(products[2]);
    if (is_usual_norm(before_norm) && is_usual_norm(after_norm)) {
      const T a = share * centre_scale * products[0] / before_norm;
      group->before_weight[g] = a / before_norm;
      group->after_weight[g] = a / after_norm;
    } else {  // squares may have overflowed or vanished, or are not finite: by unit (or zero) vectors
      (void)unit_row(params_.before, anchor, converted);
      (void)unit_row(params_.after, anchor, converted + width_);
      before = converted;
      after = converted + width_;
      group->before_weight[g] = group->after_weight[g] = share * centre_scale * dot(before, centre, width_);
    }
    group->before[g] = before;
    group->after[g] = after;
  }

  void add_group(const Group<T>& group, int count, const T* base, T base_scale, T* out, T* square) const {
    switch (count) {
      case 1:
        return run_for_isa<GroupKernel<1>>(group, base, base_scale, width_, out, square);
      case 2:
        return run_for_isa<GroupKernel<2>>(group, base, base_scale, width_, out, square);
      case 3:
        return run_for_isa<GroupKernel<3>>(group, base, base_scale, width_, out, square);
      case 4:
        return run_for_isa<GroupKernel<4>>(group, base, base_scale, width_, out, square);
      default:
        return run_for_isa<GroupKernel<kTogether>>(group, base, base_scale, width_, out, square);
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
  bool plain_prototypes_;
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
  Buffer<T> scratch_{0};  // [kScratchRows * shares, D]
};

}  // namespace

void prototype_transfer(const TransferParams& params, const int64_t* target, int64_t target_stride) {
  if (params.prototypes.rows == 0 || params.prototypes.cols == 0) {
    return;
  }
  if (compute_dtype({params.prototypes.dtype, params.before.dtype, params.after.dtype}) == DType::kFloat64) {
    Transfer<double>(params, target, target_stride).run();
  } else {
    Transfer<float>(params, target, target_stride).run();
  }
}

}  // namespace cpu
}  // namespace segp
