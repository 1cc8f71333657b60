// Loops over images whose channels lie innermost; included after engine_loops.inl, under its rules.
//
// Why not library calls: torch's GroupNorm and SiLU of a U-Net take longer than its convolutions where
// these run on bfloat16 tiles. An image of one layer fits the second-level cache, so here it is read
// three times from there and written once.

namespace motet::detail {
namespace {

// Vectors of channels summed together: their chains of dependent sums overlap.
constexpr int64_t kTogether = 4;

// x, or its squared distance from the channel's mean.
template <class S, bool kSquares>
MOTET_INLINE typename S::V summand(const typename S::Element* x, const float* mean) {
  const auto value = S::get(x);
  if constexpr (kSquares) {
    const auto centred = S::sub(value, S::load(mean));
    return S::mul(centred, centred);
  }
  return value;
}

// Sums of them over the pixels into `sums` (channels).
template <class S, bool kSquares>
MOTET_INLINE void sum_pixels(const GroupNorm& n, const float* mean, float* sums) {
  const auto* x = static_cast<const typename S::Element*>(n.x);
  int64_t c = 0;
  for (; c + kTogether * S::kWidth <= n.channels; c += kTogether * S::kWidth) {
    typename S::V sum[kTogether];
    MOTET_UNROLL
    for (int64_t k = 0; k < kTogether; ++k) {
      sum[k] = S::zero();
    }
    for (int64_t pixel = 0; pixel < n.pixels; ++pixel) {
      MOTET_UNROLL
      for (int64_t k = 0; k < kTogether; ++k) {
        const int64_t at = c + k * S::kWidth;
        sum[k] = S::add(sum[k], summand<S, kSquares>(x + pixel * n.channels + at, mean + at));
      }
    }
    MOTET_UNROLL
    for (int64_t k = 0; k < kTogether; ++k) {
      S::store(sums + c + k * S::kWidth, sum[k]);
    }
  }
  for (; c < n.channels; c += S::kWidth) {
    auto sum = S::zero();
    for (int64_t pixel = 0; pixel < n.pixels; ++pixel) {
      sum = S::add(sum, summand<S, kSquares>(x + pixel * n.channels + c, mean + c));
    }
    S::store(sums + c, sum);
  }
}

// Every entry of a group becomes the group's mean over channels and pixels.
MOTET_INLINE void mean_of_groups(const GroupNorm& n, float* values) {
  const int64_t size = n.channels / n.num_groups;
  const float scale = 1.0f / static_cast<float>(size * n.pixels);
  for (int64_t start = 0; start < n.channels; start += size) {
    float sum = 0.0f;
    for (int64_t c = start; c < start + size; ++c) {
      sum += values[c];
    }
    for (int64_t c = start; c < start + size; ++c) {
      values[c] = sum * scale;
    }
  }
}

// y = x scale + shift, or SiLU of it, with each channel's own numbers.
template <class S, bool kSilu>
MOTET_INLINE void scale_pixels(const GroupNorm& n, const float* scale, const float* shift) {
  const auto* x = static_cast<const typename S::Element*>(n.x);
  auto* out = static_cast<typename S::Element*>(n.out);
  for (int64_t pixel = 0; pixel < n.pixels; ++pixel) {
    for (int64_t c = 0; c < n.channels; c += S::kWidth) {
      const int64_t at = pixel * n.channels + c;
      const auto z = S::fma(S::get(x + at), S::load(scale + c), S::load(shift + c));
      S::put(out + at, kSilu ? S::mul(z, sigmoid<S>(z)) : z);
    }
  }
}

template <class S>
void group_norm(const GroupNorm& n) {
  float* mean = n.scratch;
  float* scale = n.scratch + n.channels;
  sum_pixels<S, false>(n, mean, mean);
  mean_of_groups(n, mean);
  sum_pixels<S, true>(n, mean, scale);
  mean_of_groups(n, scale);
  for (int64_t c = 0; c < n.channels; ++c) {
    scale[c] = n.gamma[c] * S::inverse_sqrt(scale[c] + static_cast<float>(n.epsilon));
    mean[c] = n.beta[c] - mean[c] * scale[c];  // the shift
  }
  n.with_silu ? scale_pixels<S, true>(n, scale, mean) : scale_pixels<S, false>(n, scale, mean);
}

}  // namespace
}  // namespace motet::detail
