// phi(x) = (x, sin f_1 x, cos f_1 x, ...). The derivative of a wave is its partner: d sin(f x) / dx
// = f cos(f x), d cos(f x) / dx = -f sin(f x), so that J is read off phi without a second sine.
#include "nets/features.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>

namespace motet::detail {

template <class Real>
void Features::values(const Real* x, int64_t rows, Real* phi) const {
  for (int64_t row = 0; row < rows; ++row) {
    const Real* from = x + row * dim_;
    Real* to = std::copy_n(from, dim_, phi + row * count());
    for (const double exact : frequencies_) {
      const auto frequency = static_cast<Real>(exact);  // as torch multiplies by a number
      for (int64_t j = 0; j < dim_; ++j) {
        to[j] = std::sin(from[j] * frequency);
        to[dim_ + j] = std::cos(from[j] * frequency);
      }
      to += 2 * dim_;
    }
  }
}

template <class Real>
void Features::push(const Real* phi, const Real* v, int64_t rows, Real* phi_dot) const {
  for (int64_t row = 0; row < rows; ++row) {
    const Real* direction = v + row * dim_;
    const Real* wave = phi + row * count() + dim_;
    Real* to = std::copy_n(direction, dim_, phi_dot + row * count());
    for (const double exact : frequencies_) {
      const auto frequency = static_cast<Real>(exact);
      for (int64_t j = 0; j < dim_; ++j) {
        to[j] = frequency * wave[dim_ + j] * direction[j];
        to[dim_ + j] = -frequency * wave[j] * direction[j];
      }
      to += 2 * dim_;
      wave += 2 * dim_;
    }
  }
}

template <class Real>
void Features::pull(const Real* phi, const Real* p, int64_t stride, int64_t rows,
                    Real* gradient) const {
  for (int64_t row = 0; row < rows; ++row) {
    const Real* adjoint = p + row * stride;
    Real* to = gradient + row * dim_;
    for (int64_t j = 0; j < dim_; ++j) {
      to[j] += adjoint[j];
    }
    for (size_t i = 0; i < frequencies_.size(); ++i) {
      const auto frequency = static_cast<Real>(frequencies_[i]);
      const int64_t at = dim_ * (1 + 2 * static_cast<int64_t>(i));
      const Real* wave = phi + row * count() + at;
      for (int64_t j = 0; j < dim_; ++j) {
        to[j] += frequency * (wave[dim_ + j] * adjoint[at + j] - wave[j] * adjoint[at + dim_ + j]);
      }
    }
  }
}

at::Tensor feature_tensor(const NetworkConfig& config, const at::Tensor& x) {
  if (config.frequencies.empty()) {
    return x;
  }
  std::vector<at::Tensor> parts = {x};
  for (const double frequency : config.frequencies) {
    const at::Tensor phase = x * frequency;
    parts.push_back(phase.sin());
    parts.push_back(phase.cos());
  }
  return at::cat(parts, 1);
}

template void Features::values(const float*, int64_t, float*) const;
template void Features::values(const double*, int64_t, double*) const;
template void Features::push(const float*, const float*, int64_t, float*) const;
template void Features::push(const double*, const double*, int64_t, double*) const;
template void Features::pull(const float*, const float*, int64_t, int64_t, float*) const;
template void Features::pull(const double*, const double*, int64_t, int64_t, double*) const;

}  // namespace motet::detail
