// A batch in pieces of a fixed number of rows.
#pragma once

#include <ATen/ops/cat.h>
#include <torch/types.h>

#include <algorithm>
#include <vector>

namespace motet::detail {

/// (rows, *shape).
inline std::vector<int64_t> with_rows(int64_t rows, const std::vector<int64_t>& shape) {
  std::vector<int64_t> sizes = {rows};
  sizes.insert(sizes.end(), shape.begin(), shape.end());
  return sizes;
}

/// Calls function(first, rows, piece) for one piece of x (B, *event) after another: piece
/// (rows_a_piece, *event), of which the first `rows` are those of x from `first` on. Libraries
/// choose an algorithm by the shape, so with a fixed one a row's bits do not depend on the batch.
template <class Function>
void for_pieces(const at::Tensor& x, int64_t rows_a_piece, const Function& function) {
  for (int64_t first = 0; first < x.size(0); first += rows_a_piece) {
    const int64_t rows = std::min(rows_a_piece, x.size(0) - first);
    at::Tensor piece = x.narrow(0, first, rows);
    if (rows < rows_a_piece) {  // copies of the first row: numbers of the same kind
      const at::Tensor fill =
          x.narrow(0, 0, 1).expand(with_rows(rows_a_piece - rows, x.sizes().slice(1).vec()));
      piece = at::cat({piece, fill});
    }
    function(first, rows, piece);
  }
}

}  // namespace motet::detail
