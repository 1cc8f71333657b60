// What the first layer of a network sees of x: x itself, and sines and cosines of it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "motet/model.hpp"

namespace motet::detail {

/// Most inputs of the first layer where there are frequencies.
inline constexpr int64_t kMaxFeatures = 1'000'000;

/// phi(x) = (x, sin f_1 x, cos f_1 x, sin f_2 x, ...), each of d coordinates: d (1 + 2 F) numbers.
/// Rows are packed unless a stride is named. Immutable, safe to call from many threads.
class Features {
 public:
  explicit Features(const NetworkConfig& config)
      : dim_(config.event_dim), frequencies_(config.frequencies) {}

  int64_t count() const { return dim_ * (1 + 2 * static_cast<int64_t>(frequencies_.size())); }
  /// True when phi(x) = x.
  bool is_identity() const { return frequencies_.empty(); }

  /// phi of every row of x (rows, d) -> (rows, count).
  template <class Real>
  void values(const Real* x, int64_t rows, Real* phi) const;
  /// Derivatives J v of phi along v (rows, d) -> (rows, count). J follows from phi alone.
  template <class Real>
  void push(const Real* phi, const Real* v, int64_t rows, Real* phi_dot) const;
  /// gradient (rows, d) += J^T p, with rows of p `stride` apart. phi is not read when it is x.
  template <class Real>
  void pull(const Real* phi, const Real* p, int64_t stride, int64_t rows, Real* gradient) const;

 private:
  int64_t dim_;
  std::vector<double> frequencies_;
};

/// phi(x) by torch: the definition. x (B, d) of any float dtype; differentiable.
at::Tensor feature_tensor(const NetworkConfig& config, const at::Tensor& x);

}  // namespace motet::detail
