// Loops shared by the engines, over a struct S of vector operations. Included by each engine's
// translation unit after it has set its target, so that everything here is compiled for it. Uses
// no library function: an inline one compiled here for AVX-512 could be picked by the linker for
// all machines.
//
// S: V (vector type), kWidth, kRows (rows of a register block), Element, and zero set1 load store
// add sub mul fma(a,b,c)=ab+c fnma(a,b,c)=c-ab min exp2 reciprocal sum(V), and
// put(Element* to, V low, V high), which stores 2 kWidth elements, and
// inverse_sqrt(float). engine_images.inl also needs get(const Element*) and put(Element*, V).

namespace motet::detail {
namespace {

// 1 / (1 + exp(-x)). The exponent is bounded above so that the reciprocal never meets infinity:
// below x = -87 the sigmoid stays at 1e-38. NaN stays NaN where callers multiply by x.
template <class S>
MOTET_INLINE typename S::V sigmoid(typename S::V x) {
  const auto exponent = S::min(S::mul(x, S::set1(-1.44269504f)), S::set1(126.0f));
  return S::reciprocal(S::add(S::set1(1.0f), S::exp2(exponent)));
}

// What becomes of a finished pair of sums: two neighbouring vectors of one row.
template <class S>
struct StoreAffine {
  MOTET_INLINE static void apply(const Product& p, int64_t row, int64_t column, typename S::V low,
                                 typename S::V high) {
    float* c = static_cast<float*>(p.c) + row * p.c_stride + column;
    S::store(c, S::add(low, S::load(p.bias + column)));
    S::store(c + S::kWidth, S::add(high, S::load(p.bias + column + S::kWidth)));
  }
};

template <class S>
struct StoreAdd {
  MOTET_INLINE static void apply(const Product& p, int64_t row, int64_t column, typename S::V low,
                                 typename S::V high) {
    float* c = static_cast<float*>(p.c) + row * p.c_stride + column;
    low = S::add(low, S::load(p.bias + column));
    high = S::add(high, S::load(p.bias + column + S::kWidth));
    S::store(c, S::add(S::load(c), low));
    S::store(c + S::kWidth, S::add(S::load(c + S::kWidth), high));
  }
};

template <class S, bool kKeep>
struct StoreSilu {
  // y = z s(z); SiLU'(z) = s + y (1 - s) = s + y - y s.
  MOTET_INLINE static typename S::V one(float* slope, typename S::V z) {
    const auto s = sigmoid<S>(z);
    const auto y = S::mul(z, s);
    if constexpr (kKeep) {
      S::store(slope, S::fnma(y, s, S::add(s, y)));
    }
    return y;
  }
  MOTET_INLINE static void apply(const Product& p, int64_t row, int64_t column, typename S::V low,
                                 typename S::V high) {
    float* slope = kKeep ? p.slope + row * p.num_out + column : nullptr;
    low = one(slope, S::add(low, S::load(p.bias + column)));
    high = one(kKeep ? slope + S::kWidth : nullptr,
               S::add(high, S::load(p.bias + column + S::kWidth)));
    S::put(static_cast<typename S::Element*>(p.c) + row * p.c_stride + column, low, high);
  }
};

template <class S>
struct StoreScaled {
  MOTET_INLINE static void apply(const Product& p, int64_t row, int64_t column, typename S::V low,
                                 typename S::V high) {
    const float* slope = p.slope + row * p.num_out + column;
    S::put(static_cast<typename S::Element*>(p.c) + row * p.c_stride + column,
           S::mul(low, S::load(slope)), S::mul(high, S::load(slope + S::kWidth)));
  }
};

// Steps of k that weights are fetched ahead; past the end it is the next panel, or harmless.
constexpr int64_t kPrefetch = 16;

// kRows rows times one pair of vectors: the sums live in registers for the whole of k.
template <class S, int kRows, class Store>
MOTET_INLINE void block(const Product& p, const float* panel, int64_t row, int64_t column) {
  typename S::V low[kRows];
  typename S::V high[kRows];
  MOTET_UNROLL
  for (int r = 0; r < kRows; ++r) {
    low[r] = S::zero();
    high[r] = S::zero();
  }
  const float* a = static_cast<const float*>(p.a) + row * p.a_stride;
  for (int64_t k = 0; k < p.num_in; ++k) {
    const auto w_low = S::load(panel + k * kPanel);
    const auto w_high = S::load(panel + k * kPanel + S::kWidth);
    __builtin_prefetch(panel + (k + kPrefetch) * kPanel);
    __builtin_prefetch(panel + (k + kPrefetch) * kPanel + 16);
    MOTET_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const auto x = S::set1(a[r * p.a_stride + k]);
      low[r] = S::fma(x, w_low, low[r]);
      high[r] = S::fma(x, w_high, high[r]);
    }
  }
  MOTET_UNROLL
  for (int r = 0; r < kRows; ++r) {
    Store::apply(p, row + r, column, low[r], high[r]);
  }
}

template <class S, int kRows, class Store>
MOTET_INLINE void row_block(const Product& p, int64_t row) {
  for (int64_t column = 0; column < p.num_out; column += 2 * S::kWidth) {
    const float* panel =
        static_cast<const float*>(p.weight) + column / kPanel * kPanel * p.num_in + column % kPanel;
    block<S, kRows, Store>(p, panel, row, column);
  }
}

// A block of rows stays in the first-level cache while all panels stream past it from the second.
// (The other order, one panel held while rows stream past, fills that cache to the brim at 256
// inputs and loses several percent.)
template <class S, class Store>
MOTET_INLINE void product(const Product& p) {
  int64_t row = 0;
  for (; row + S::kRows <= p.rows; row += S::kRows) {
    row_block<S, S::kRows, Store>(p, row);
  }
  for (; row + 4 <= p.rows; row += 4) {
    row_block<S, 4, Store>(p, row);
  }
  for (; row < p.rows; ++row) {
    row_block<S, 1, Store>(p, row);
  }
}

// Mean and 1 / sd of one row. Padding of h is zero, so it adds nothing to the mean; the mask keeps
// it out of the variance.
template <class S>
MOTET_INLINE void moments(const Norm& n, const float* h, float* mean, float* inverse_sd) {
  const int64_t num = padded(n.width);
  const float scale = 1.0f / static_cast<float>(n.width);
  auto sum = S::zero();
  for (int64_t j = 0; j < num; j += S::kWidth) {
    sum = S::add(sum, S::load(h + j));
  }
  *mean = S::sum(sum) * scale;
  auto square = S::zero();
  for (int64_t j = 0; j < num; j += S::kWidth) {
    const auto centred = S::mul(S::load(n.mask + j), S::sub(S::load(h + j), S::set1(*mean)));
    square = S::fma(centred, centred, square);
  }
  *inverse_sd = S::inverse_sqrt(S::sum(square) * scale + static_cast<float>(n.epsilon));
}

template <class S, bool kKeep>
MOTET_INLINE typename S::V norm_silu_one(const Norm& n, const float* h, int64_t row, int64_t j,
                                         typename S::V mean, typename S::V inverse_sd) {
  const auto normed = S::mul(S::sub(S::load(h + j), mean), inverse_sd);
  const auto gamma = S::load(n.gamma + j);
  const auto z = S::fma(normed, gamma, S::load(n.beta + j));
  const auto s = sigmoid<S>(z);
  const auto y = S::mul(z, s);
  if constexpr (kKeep) {
    const int64_t at = row * padded(n.width) + j;
    S::store(n.normed + at, S::mul(S::load(n.mask + j), normed));
    S::store(n.slope + at, S::mul(gamma, S::fnma(y, s, S::add(s, y))));
  }
  return y;
}

// Rows whose moments are computed together: their long chains of dependent sums, a square root and
// a division then overlap (row by row, LayerNorm took 7 % of a float32 pass).
constexpr int kMomentRows = 8;

template <class S, bool kKeep>
MOTET_INLINE void norm_silu_rows(const Norm& n) {
  for (int64_t start = 0; start < n.rows; start += kMomentRows) {
    const int64_t end = start + kMomentRows < n.rows ? start + kMomentRows : n.rows;
    float mean[kMomentRows];
    float inverse_sd[kMomentRows];
    for (int64_t row = start; row < end; ++row) {
      moments<S>(n, n.h + row * n.h_stride, mean + (row - start), inverse_sd + (row - start));
    }
    for (int64_t row = start; row < end; ++row) {
      const float* h = n.h + row * n.h_stride;
      const auto m = S::set1(mean[row - start]);
      const auto i = S::set1(inverse_sd[row - start]);
      if constexpr (kKeep) {
        n.inverse_sd[row] = inverse_sd[row - start];
      }
      auto* out = static_cast<typename S::Element*>(n.out) + row * n.out_stride;
      for (int64_t j = 0; j < padded(n.width); j += 2 * S::kWidth) {
        S::put(out + j, norm_silu_one<S, kKeep>(n, h, row, j, m, i),
               norm_silu_one<S, kKeep>(n, h, row, j + S::kWidth, m, i));
      }
    }
  }
}

// With q = g SiLU' gamma:  dh += (q - mean(q) - n mean(q n)) / sd.
template <class S>
MOTET_INLINE void norm_backward_rows(const Norm& n) {
  const int64_t num = padded(n.width);
  const float scale = 1.0f / static_cast<float>(n.width);
  for (int64_t row = 0; row < n.rows; ++row) {
    float* dh = n.h + row * n.h_stride;
    const float* g = static_cast<const float*>(n.out) + row * n.out_stride;
    const float* slope = n.slope + row * num;
    const float* normed = n.normed + row * num;
    auto sum = S::zero();
    auto dot = S::zero();
    for (int64_t j = 0; j < num; j += S::kWidth) {
      const auto q = S::mul(S::load(g + j), S::load(slope + j));
      sum = S::add(sum, q);
      dot = S::fma(q, S::load(normed + j), dot);
    }
    const auto mean = S::set1(S::sum(sum) * scale);
    const auto slant = S::set1(S::sum(dot) * scale);
    const auto inverse_sd = S::set1(n.inverse_sd[row]);
    for (int64_t j = 0; j < num; j += S::kWidth) {
      const auto q = S::mul(S::load(g + j), S::load(slope + j));
      const auto centred = S::mul(S::load(n.mask + j), S::sub(q, mean));
      const auto change = S::fnma(S::load(normed + j), slant, centred);
      S::store(dh + j, S::fma(change, inverse_sd, S::load(dh + j)));
    }
  }
}

template <class S>
void narrow_rows(const float* from, int64_t from_stride, void* to, int64_t to_stride, int64_t rows,
                 int64_t num) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t j = 0; j < num; j += 2 * S::kWidth) {
      const float* source = from + row * from_stride + j;
      S::put(static_cast<typename S::Element*>(to) + row * to_stride + j, S::load(source),
             S::load(source + S::kWidth));
    }
  }
}

template <class S>
void norm_silu(const Norm& n) {
  n.normed != nullptr ? norm_silu_rows<S, true>(n) : norm_silu_rows<S, false>(n);
}

template <class S>
void norm_backward(const Norm& n) {
  norm_backward_rows<S>(n);
}

template <class S>
void linear(const Product& p) {
  product<S, StoreAffine<S>>(p);
}

template <class S>
void linear_add(const Product& p) {
  product<S, StoreAdd<S>>(p);
}

template <class S>
void linear_silu(const Product& p) {
  p.slope != nullptr ? product<S, StoreSilu<S, true>>(p) : product<S, StoreSilu<S, false>>(p);
}

template <class S>
void linear_scale(const Product& p) {
  product<S, StoreScaled<S>>(p);
}

}  // namespace
}  // namespace motet::detail
