// Private to the data sets: what all ask of labels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace motet::detail {

/// The class of each of num_rows rows as int64 on the CPU; DataError for others.
at::Tensor checked_labels(const at::Tensor& labels, int64_t num_rows, const std::string& name);

}  // namespace motet::detail
