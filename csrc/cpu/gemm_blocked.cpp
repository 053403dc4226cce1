// Products and sums may be fused here, against the rule for all other files: nothing depends on a sum's last bit
// being that of another processor.
#if defined(__clang__)
#pragma clang fp contract(fast)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=fast")
#endif

// Vectors wider than the baseline has never leave a function that is not inlined.
#pragma GCC diagnostic ignored "-Wpsabi"

#include "segp/gemm_blocked.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "isa.h"
#include "segp/host_device.h"
#include "segp/parallel.h"

#if defined(__clang__)
#define SEGP_UNROLL _Pragma("clang loop unroll(full)")
#else
#define SEGP_UNROLL _Pragma("GCC unroll 16")
#endif

namespace segp {
namespace cpu {
namespace {

// Multiplications that a thread should have to do, at least.
constexpr int64_t kGrain = 128 * 1024;
// How much of a panel of b is packed at a time: it stays in the first-level cache or close to it.
constexpr int64_t kDepth = 256;
// Rows that share a packed panel, at least: packing costs what a few rows of the product do.
constexpr int64_t kRowGroup = 48;

template <class T, int kBytes>
struct VectorOf {
  typedef T type __attribute__((vector_size(kBytes)));
};
// The same anywhere in an array of T.
template <class T, int kBytes>
struct LooseVectorOf {
  typedef T type __attribute__((vector_size(kBytes), aligned(alignof(T)), may_alias));
};

// Elements of `a` and `b`, counted through, in the order of the lanes given. (A vector that is returned, not written,
// makes compilers speak of calling conventions.)
template <int... kLane, class Vector>
SEGP_ALWAYS_INLINE void pick(const Vector& a, const Vector& b, Vector* result) {
#if defined(__clang__) || __GNUC__ >= 12
  *result = __builtin_shufflevector(a, b, kLane...);
#else
  using Lane = std::conditional_t<sizeof(a[0]) == 4, int32_t, int64_t>;
  *result = __builtin_shuffle(a, b, typename VectorOf<Lane, sizeof(Vector)>::type{kLane...});
#endif
}

// A block of the product: one or two vectors wide, and as many rows high as leave registers for everything else.
template <class T, int kBytes, int kMostRows>
struct Block {
  using Vector = typename VectorOf<T, kBytes>::type;
  using Loose = typename LooseVectorOf<T, kBytes>::type;
  static constexpr int kWidth = kBytes / static_cast<int>(sizeof(T));
  static constexpr int kCols = 2 * kWidth;

  SEGP_ALWAYS_INLINE static Vector load(const T* from) { return *reinterpret_cast<const Loose*>(from); }
  SEGP_ALWAYS_INLINE static void store(T* to, const Vector& value) { *reinterpret_cast<Loose*>(to) = value; }

  // Transposes kWidth vectors: exchanges blocks of kDistance x kDistance beside the diagonal, for kDistance 1, 2, 4...
  template <int kDistance, int... kLane>
  SEGP_ALWAYS_INLINE static void transpose(Vector (&row)[kWidth], std::integer_sequence<int, kLane...> lanes) {
    SEGP_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      if ((i & kDistance) == 0) {
        const Vector upper = row[i];
        const Vector lower = row[i + kDistance];
        pick<((kLane & kDistance) == 0 ? kLane : kLane - kDistance + kWidth)...>(upper, lower, &row[i]);
        pick<((kLane & kDistance) == 0 ? kLane + kDistance : kLane + kWidth)...>(upper, lower, &row[i + kDistance]);
      }
    }
    if constexpr (2 * kDistance < kWidth) {
      transpose<2 * kDistance>(row, lanes);
    }
  }

  // panel[k][j] = b[k][j]; further j hold anything, and reach no result.
  SEGP_ALWAYS_INLINE static void pack(GemmMatrix<const T> b, T* panel) {
    if (b.col_stride == 1) {
      for (int64_t k = 0; k < b.rows; ++k) {
        const T* from = b.data + k * b.row_stride;
        T* to = panel + k * kCols;
        if (b.cols == kCols) {
          store(to, load(from));
          store(to + kWidth, load(from + kWidth));
        } else {
          for (int j = 0; j < kCols; ++j) {
            to[j] = j < b.cols ? from[j] : T(0);
          }
        }
      }
      return;
    }
    for (int64_t j = 0; j < b.cols; j += kWidth) {
      const int64_t last = b.cols - 1 - j;
      int64_t k = 0;
      for (; k + kWidth <= b.rows; k += kWidth) {
        Vector row[kWidth];
        SEGP_UNROLL
        for (int i = 0; i < kWidth; ++i) {
          row[i] = load(b.data + k + (j + std::min<int64_t>(i, last)) * b.col_stride);
        }
        transpose<1>(row, std::make_integer_sequence<int, kWidth>{});
        SEGP_UNROLL
        for (int i = 0; i < kWidth; ++i) {
          store(panel + (k + i) * kCols + j, row[i]);
        }
      }
      for (; k < b.rows; ++k) {
        for (int i = 0; i < kWidth; ++i) {
          panel[k * kCols + j + i] = b.data[k + (j + std::min<int64_t>(i, last)) * b.col_stride];
        }
      }
    }
  }

  // out[i][j] = sum_k a[i][k] panel[k][j], or += it, for kRows rows.
  template <int kRows, int kVectors>
  SEGP_ALWAYS_INLINE static void multiply(GemmMatrix<const T> a, const T* panel, GemmMatrix<T> out, bool accumulate) {
    Vector sum[kVectors][kRows];
    SEGP_UNROLL
    for (int i = 0; i < kRows; ++i) {
      for (int v = 0; v < kVectors; ++v) {
        sum[v][i] = Vector{};
      }
    }
    for (int64_t k = 0; k < a.cols; ++k) {
      Vector from[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        from[v] = load(panel + k * kCols + v * kWidth);
      }
      const T* factor = a.data + k * a.col_stride;
      SEGP_UNROLL
      for (int i = 0; i < kRows; ++i) {
        for (int v = 0; v < kVectors; ++v) {
          sum[v][i] += factor[i * a.row_stride] * from[v];
        }
      }
    }
    T edge[kVectors * kWidth];
    SEGP_UNROLL
    for (int i = 0; i < kRows; ++i) {
      T* to = out.data + i * out.row_stride;
      if (out.cols == kVectors * kWidth) {
        for (int v = 0; v < kVectors; ++v) {
          store(to + v * kWidth, accumulate ? load(to + v * kWidth) + sum[v][i] : sum[v][i]);
        }
      } else {
        for (int v = 0; v < kVectors; ++v) {
          store(edge + v * kWidth, sum[v][i]);
        }
        for (int64_t j = 0; j < out.cols; ++j) {
          to[j] = accumulate ? to[j] + edge[j] : edge[j];
        }
      }
    }
  }

  template <int kVectors>
  SEGP_ALWAYS_INLINE static void multiply_rows(const GemmMatrix<const T>& a, const T* panel, const GemmMatrix<T>& out,
                                               bool accumulate) {
    int64_t i = 0;
    const auto rows = [&](auto count) SEGP_INLINE_LAMBDA {
      constexpr int kRows = decltype(count)::value;
      for (; i + kRows <= a.rows; i += kRows) {
        multiply<kRows, kVectors>(a.row_range(i, i + kRows), panel, out.row_range(i, i + kRows), accumulate);
      }
    };
    rows(std::integral_constant<int, kMostRows>{});
    rows(std::integral_constant<int, kMostRows / 2>{});
    rows(std::integral_constant<int, 2>{});
    rows(std::integral_constant<int, 1>{});
  }

  // The product of some rows with at most kCols columns.
  SEGP_ALWAYS_INLINE static void run(const GemmMatrix<const T>& a, const GemmMatrix<const T>& b,
                                     const GemmMatrix<T>& out, bool accumulate) {
    alignas(64) T panel[kDepth * kCols];
    for (int64_t k = 0; k == 0 || k < a.cols; k += kDepth) {
      const int64_t end = std::min(a.cols, k + kDepth);
      pack(b.row_range(k, end), panel);
      const GemmMatrix<const T> part = a.columns(k, end);
      if (out.cols > kWidth) {
        multiply_rows<2>(part, panel, out, accumulate || k > 0);
      } else {
        multiply_rows<1>(part, panel, out, accumulate || k > 0);
      }
    }
  }
};

// How a product is cut into tasks: a panel of columns by a group of rows each.
struct Cut {
  int64_t panel;   // columns
  int64_t group;   // rows
  int64_t groups;  // tasks of one panel
};

template <class T, class B>
struct Tasks {
  SEGP_ALWAYS_INLINE static void run(const GemmMatrix<const T>& a, const GemmMatrix<const T>& b,
                                     const GemmMatrix<T>& out, bool accumulate, const Cut& cut, int64_t begin,
                                     int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task % cut.groups * cut.group;
      const int64_t row_end = std::min(out.rows, row + cut.group);
      const int64_t col = task / cut.groups * cut.panel;
      const int64_t col_end = std::min(out.cols, col + cut.panel);
      B::run(a.row_range(row, row_end), b.columns(col, col_end), out.columns(col, col_end).row_range(row, row_end),
             accumulate);
    }
  }
};

template <class T, class B, class Call>
void in_tasks(const GemmMatrix<const T>& a, const GemmMatrix<const T>& b, const GemmMatrix<T>& out, bool accumulate,
              const Call& call) {
  constexpr int64_t kEnough = 16;  // tasks, for threads to share them evenly
  Cut cut{};
  cut.panel = out.cols >= kEnough * B::kCols ? B::kCols : B::kWidth;
  const int64_t panels = (out.cols + cut.panel - 1) / cut.panel;
  const int64_t most_groups = std::max<int64_t>(1, out.rows / kRowGroup);
  const int64_t groups = std::min(most_groups, (kEnough + panels - 1) / panels);
  cut.group = (out.rows + groups - 1) / groups;
  cut.groups = (out.rows + cut.group - 1) / cut.group;
  const int64_t work = std::max<int64_t>(1, cut.panel * cut.group * a.cols);
  parallel_for(panels * cut.groups, std::max<int64_t>(1, kGrain / work),
               [&](int64_t begin, int64_t end) { call(a, b, out, accumulate, cut, begin, end); });
}

}  // namespace

template <class T>
void gemm_blocked(const GemmMatrix<const T>& a, const GemmMatrix<const T>& b, const GemmMatrix<T>& out,
                  bool accumulate) {
  if (out.rows == 0 || out.cols == 0) {
    return;
  }
#if SEGP_X86_DISPATCH
  if (isa() == Isa::kAvx512) {
    using B = Block<T, 64, 12>;
    return in_tasks<T, B>(a, b, out, accumulate, [](const auto&... args) { run_avx512<Tasks<T, B>>(args...); });
  }
  if (isa() == Isa::kAvx2) {
    using B = Block<T, 32, 6>;
    return in_tasks<T, B>(a, b, out, accumulate, [](const auto&... args) { run_avx2<Tasks<T, B>>(args...); });
  }
#endif
#if defined(__aarch64__)
  using B = Block<T, 16, 12>;
#else
  using B = Block<T, 16, 6>;
#endif
  in_tasks<T, B>(a, b, out, accumulate, [](const auto&... args) { Tasks<T, B>::run(args...); });
}

int64_t gemm_blocked_limit() {
  // With AVX2 or AVX-512 the ops were faster with it up to here than with torch's MKL (on an AMD processor, where MKL
  // has no AVX-512). Elsewhere it saves the calls of tiny products.
  return isa() == Isa::kBaseline ? int64_t{16} * 1024 : int64_t{1} << 31;
}

template void gemm_blocked(const GemmMatrix<const float>&, const GemmMatrix<const float>&, const GemmMatrix<float>&,
                           bool);
template void gemm_blocked(const GemmMatrix<const double>&, const GemmMatrix<const double>&, const GemmMatrix<double>&,
                           bool);

}  // namespace cpu
}  // namespace segp
