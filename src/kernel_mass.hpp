// The diagonal mass of the Hamiltonian kernels, where the chains are.
#pragma once

#include <ATen/core/Tensor.h>

#include <mutex>
#include <vector>

namespace motet::detail {

/// One mass for each coordinate of an event. A kernel is immutable and shared between threads; this
/// keeps, behind its back, one tensor for each device and dtype that a step asked for, so that only
/// the first step copies to the device (and waits for that).
class DiagonalMass {
 public:
  /// Empty: unit mass.
  explicit DiagonalMass(std::vector<double> entries) : entries_(std::move(entries)) {}
  /// (1, *event), with the dtype and device of x (B, *event); undefined for unit mass. Throws
  /// ShapeError unless there is one entry for each coordinate.
  at::Tensor like(const at::Tensor& x) const;

 private:
  at::Tensor flat_like(const at::Tensor& x) const;

  std::vector<double> entries_;
  mutable std::mutex mutex_;
  mutable std::vector<at::Tensor> copies_;  // (entries), guarded by mutex_
};

}  // namespace motet::detail
