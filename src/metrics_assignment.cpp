// Optimal transport between point sets of equal size. In float64 over a dense cost matrix, the
// least-cost assignment by dual ascent: column reduction, augmenting row reduction, then one
// shortest augmenting path (Dijkstra on the reduced costs c_ij - u_i - v_j >= 0) for each row still
// free (Jonker and Volgenant 1987; Crouse 2016). Every step keeps the reduced costs non-negative
// and those of matched pairs zero, which proves the result optimal whatever the initial steps do.
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <sstream>

#include "metrics_detail.hpp"
#include "motet/error.hpp"
#include "motet/metrics.hpp"

namespace motet {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kFree = -1;
// 3.2 GB of costs; beyond it the search takes many minutes and w2_sliced is the tool.
constexpr int64_t kMaxAssigned = 20000;
// Independent running minima, so that the compiler can use vector registers without being allowed
// to reorder floating-point operations.
constexpr int64_t kLanes = 8;

struct TwoSmallest {
  double first = kInfinity;
  double second = kInfinity;
  int64_t first_at = 0;
  int64_t second_at = 0;
};

class AssignmentSolver {
 public:
  AssignmentSolver(const double* cost, int64_t size)
      : cost_(cost),
        size_(size),
        price_(as_size(size)),
        dist_(as_size(size)),
        open_price_(as_size(size)),
        parent_(as_size(size)),
        column_of_(as_size(size), kFree),
        row_of_(as_size(size), kFree),
        claims_(as_size(size), 0) {}

  std::vector<int64_t> solve() {
    reduce_columns();
    transfer_reductions();
    std::vector<int64_t> free_rows;
    for (int64_t i = 0; i < size_; ++i) {
      if (column_of_[as_size(i)] == kFree) {
        free_rows.push_back(i);
      }
    }
    if (size_ > 1) {  // a second smallest entry is needed
      for (int pass = 0; pass < 2 && !free_rows.empty(); ++pass) {
        free_rows = reduce_augmenting_rows(free_rows);
      }
    }
    for (const int64_t i : free_rows) {
      augment(i);
    }
    return column_of_;
  }

  /// After solve(): v_j, the dual of column j; that of row i is its cost - v of its column.
  const std::vector<double>& prices() const { return price_; }

 private:
  static size_t as_size(int64_t i) { return static_cast<size_t>(i); }
  const double* row(int64_t i) const { return cost_ + i * size_; }
  double reduced(int64_t i, int64_t j) const { return row(i)[j] - price_[as_size(j)]; }

  // price_j = least cost in column j; its row takes the column if it has none yet.
  void reduce_columns() {
    std::vector<int64_t> best_row(as_size(size_), 0);
    std::copy(row(0), row(0) + size_, price_.begin());
    for (int64_t i = 1; i < size_; ++i) {
      const double* costs = row(i);
      for (size_t j = 0; j < as_size(size_); ++j) {
        const bool better = costs[j] < price_[j];
        price_[j] = better ? costs[j] : price_[j];
        best_row[j] = better ? i : best_row[j];
      }
    }
    for (int64_t j = size_ - 1; j >= 0; --j) {
      const int64_t i = best_row[as_size(j)];
      if (++claims_[as_size(i)] == 1) {
        match(i, j);
      }
    }
  }

  // A row that is the cheapest of one column only can lower that column's price by the slack to its
  // next choice: the column becomes more attractive to later paths at no loss.
  void transfer_reductions() {
    for (int64_t i = 0; size_ > 1 && i < size_; ++i) {
      if (claims_[as_size(i)] == 1) {
        const int64_t j = column_of_[as_size(i)];
        price_[as_size(j)] -= smallest_but(i, j);
      }
    }
  }

  double smallest_but(int64_t i, int64_t excluded) const {
    double smallest = kInfinity;
    for (int64_t j = 0; j < size_; ++j) {
      if (j != excluded) {
        smallest = std::min(smallest, reduced(i, j));
      }
    }
    return smallest;
  }

  // One auction-like pass: each free row takes its best column, lowers its price to the second
  // best and so frees the row that held it. Returns the rows left free.
  std::vector<int64_t> reduce_augmenting_rows(const std::vector<int64_t>& free_rows) {
    std::vector<int64_t> left;
    // With rounding, two rows can contest a column by ever smaller steps; rows beyond this budget
    // go to the shortest-path phase, which always ends.
    int64_t budget = 10 * size_;
    for (const int64_t first : free_rows) {
      int64_t i = first;
      while (i != kFree) {
        if (--budget < 0) {
          left.push_back(i);
          break;
        }
        i = contest(i, left);
      }
    }
    return left;
  }

  // Row i takes its best column. Returns the row to treat next (the one displaced, if the price
  // fell), or kFree.
  int64_t contest(int64_t i, std::vector<int64_t>& left) {
    const TwoSmallest best = two_smallest(i);
    const double lowered = price_[as_size(best.first_at)] - (best.second - best.first);
    const bool falls = lowered < price_[as_size(best.first_at)];
    int64_t j = best.first_at;
    if (falls) {
      price_[as_size(j)] = lowered;
    } else if (row_of_[as_size(j)] != kFree) {
      j = best.second_at;  // a tie: the other column may be free
    }
    const int64_t displaced = row_of_[as_size(j)];
    if (displaced != kFree) {
      column_of_[as_size(displaced)] = kFree;
    }
    match(i, j);
    if (displaced != kFree && !falls) {
      left.push_back(displaced);
      return kFree;
    }
    return displaced;
  }

  TwoSmallest two_smallest(int64_t i) const {
    double first[kLanes];
    double second[kLanes];
    std::fill_n(first, kLanes, kInfinity);
    std::fill_n(second, kLanes, kInfinity);
    const double* costs = row(i);
    const double* prices = price_.data();
    const int64_t blocked = size_ - size_ % kLanes;
    for (int64_t j = 0; j < blocked; j += kLanes) {
      for (int64_t l = 0; l < kLanes; ++l) {
        const double value = costs[j + l] - prices[j + l];
        const double larger = first[l] < value ? value : first[l];
        second[l] = larger < second[l] ? larger : second[l];
        first[l] = value < first[l] ? value : first[l];
      }
    }
    TwoSmallest best;
    for (int64_t l = 0; l < kLanes; ++l) {
      insert(best, first[l]);
      insert(best, second[l]);
    }
    for (int64_t j = blocked; j < size_; ++j) {
      insert(best, costs[j] - prices[j]);
    }
    locate(i, best);
    return best;
  }

  static void insert(TwoSmallest& best, double value) {
    best.second = std::min(best.second, std::max(best.first, value));
    best.first = std::min(best.first, value);
  }

  void locate(int64_t i, TwoSmallest& best) const {
    best.first_at = kFree;
    best.second_at = kFree;
    for (int64_t j = 0; j < size_; ++j) {
      const double value = reduced(i, j);
      if (best.first_at == kFree && value == best.first) {
        best.first_at = j;
      } else if (best.second_at == kFree && value == best.second) {
        best.second_at = j;
      }
      if (best.first_at != kFree && best.second_at != kFree) {
        return;
      }
    }
  }

  // Shortest augmenting path from free row `start` to any free column.
  void augment(int64_t start) {
    std::copy(price_.begin(), price_.end(), open_price_.begin());
    std::fill(dist_.begin(), dist_.end(), kInfinity);
    std::vector<std::pair<int64_t, double>> scanned;
    int64_t i = start;
    double base = 0.0;
    int64_t sink = kFree;
    double lowest = 0.0;
    while (sink == kFree) {
      lowest = relax(i, base);
      const int64_t j = column_at(lowest);
      if (row_of_[as_size(j)] == kFree) {
        sink = j;
        break;
      }
      scanned.emplace_back(j, lowest);
      dist_[as_size(j)] = kInfinity;         // a scanned column is never the minimum again,
      open_price_[as_size(j)] = -kInfinity;  // and its distance never falls: c - (-inf) = inf
      i = row_of_[as_size(j)];
      base = reduced(i, j) - lowest;
    }
    for (const auto& [j, distance] : scanned) {
      price_[as_size(j)] += distance - lowest;
    }
    flip_path(start, sink);
  }

  // dist_j = min(dist_j, c_ij - price_j - base), remembering i; returns the least of all dist_j.
  double relax(int64_t i, double base) {
    const double* costs = row(i);
    const double* prices = open_price_.data();
    double* dist = dist_.data();
    int64_t* parent = parent_.data();
    double least[kLanes];
    std::fill_n(least, kLanes, kInfinity);
    const int64_t blocked = size_ - size_ % kLanes;
    for (int64_t j = 0; j < blocked; j += kLanes) {
      for (int64_t l = 0; l < kLanes; ++l) {
        const double through = costs[j + l] - prices[j + l] - base;
        const bool better = through < dist[j + l];
        dist[j + l] = better ? through : dist[j + l];
        parent[j + l] = better ? i : parent[j + l];
        least[l] = dist[j + l] < least[l] ? dist[j + l] : least[l];
      }
    }
    for (int64_t j = blocked; j < size_; ++j) {
      const double through = costs[j] - prices[j] - base;
      if (through < dist[j]) {
        dist[j] = through;
        parent[j] = i;
      }
      least[0] = std::min(least[0], dist[j]);
    }
    return *std::min_element(least, least + kLanes);
  }

  // A column at this distance; a free one if there is any, so that ties end the search.
  int64_t column_at(double distance) const {
    int64_t taken = kFree;
    for (int64_t j = 0; j < size_; ++j) {
      if (dist_[as_size(j)] == distance) {
        if (row_of_[as_size(j)] == kFree) {
          return j;
        }
        taken = j;
      }
    }
    return taken;
  }

  void flip_path(int64_t start, int64_t sink) {
    int64_t j = sink;
    int64_t i = kFree;
    do {
      i = parent_[as_size(j)];
      const int64_t previous = column_of_[as_size(i)];
      match(i, j);
      j = previous;
    } while (i != start);
  }

  void match(int64_t i, int64_t j) {
    column_of_[as_size(i)] = j;
    row_of_[as_size(j)] = i;
  }

  const double* cost_;
  int64_t size_;
  std::vector<double> price_;       // v_j, the dual of column j
  std::vector<double> dist_;        // of the running search; +inf for scanned columns
  std::vector<double> open_price_;  // price_j, -inf for scanned columns
  std::vector<int64_t> parent_;     // the row through which column j was reached
  std::vector<int64_t> column_of_;
  std::vector<int64_t> row_of_;
  std::vector<int64_t> claims_;  // how many columns have row i as their cheapest
};

void require_assignable(const std::string& where, int64_t num_points) {
  if (num_points > kMaxAssigned) {
    throw ShapeError(where + ": " + std::to_string(num_points) +
                     " points, must be <= " + std::to_string(kMaxAssigned) +
                     " (the costs take 8 N^2 bytes); use w2_sliced or a subset");
  }
}

// (N, N) squared distances.
Tensor squared_distance_matrix(const Tensor& x, const Tensor& y) {
  const int64_t num_points = x.size(0);
  const Tensor transposed = y.t().contiguous();
  Tensor cost = torch::empty({num_points, num_points}, torch::kFloat64);
  for (int64_t i = 0; i < num_points; ++i) {
    detail::squared_distances(x.const_data_ptr<double>() + i * x.size(1), transposed, 0, num_points,
                              cost.mutable_data_ptr<double>() + i * num_points);
  }
  return cost;
}

Tensor folded(const Tensor& points) {
  Tensor copy = points.clone();
  copy.select(1, 1).abs_();
  return copy;
}

}  // namespace

detail::Transport detail::transport(const Tensor& points, const Tensor& others) {
  const int64_t num_points = points.size(0);
  const Tensor cost = squared_distance_matrix(points, others);
  const double* costs = cost.const_data_ptr<double>();
  AssignmentSolver solver(costs, num_points);
  const std::vector<int64_t> columns = solver.solve();
  const std::vector<double>& prices = solver.prices();
  Transport result;
  result.potentials = torch::empty({num_points}, torch::kFloat64);
  double* potentials = result.potentials.mutable_data_ptr<double>();
  double total = 0.0;
  for (int64_t i = 0; i < num_points; ++i) {
    const auto column = static_cast<size_t>(columns[static_cast<size_t>(i)]);
    const double matched = costs[i * num_points + columns[static_cast<size_t>(i)]];
    total += matched;
    potentials[i] = matched - prices[column] + prices[static_cast<size_t>(i)];
  }
  result.w2 = std::sqrt(total / static_cast<double>(num_points));
  return result;
}

detail::Transport detail::folded_transport(const Tensor& points, const Tensor& others) {
  return transport(folded(points), folded(others));
}

std::vector<int64_t> assignment(const Tensor& cost) {
  const std::string where = "assignment";
  if (!cost.defined() || cost.dim() != 2 || cost.size(0) != cost.size(1) || cost.size(0) == 0) {
    throw ShapeError(where + ": cost has shape " + detail::shape_text(cost) +
                     ", must be (N, N) with N >= 1: one row and one column for each pair");
  }
  require_assignable(where, cost.size(0));
  const Tensor costs = detail::finite_points(where, "cost", cost);
  return AssignmentSolver(costs.const_data_ptr<double>(), costs.size(0)).solve();
}

double w2_assignment(const Tensor& x, const Tensor& y) {
  const std::string where = "w2_assignment";
  const Tensor points = detail::finite_points(where, "x", x);
  const Tensor others = detail::finite_points(where, "y", y);
  detail::require_alike(where, points, others, true);
  require_assignable(where, points.size(0));
  return detail::transport(points, others).w2;
}

double w2_folded(const Tensor& x, const Tensor& y) {
  const std::string where = "w2_folded";
  const Tensor points = detail::finite_points(where, "x", x);
  const Tensor others = detail::finite_points(where, "y", y);
  detail::require_alike(where, points, others, true);
  if (points.size(1) < 2) {
    throw ShapeError(where + ": points have 1 coordinate, must have >= 2: the second is folded");
  }
  require_assignable(where, points.size(0));
  return detail::folded_transport(points, others).w2;
}

double w2_sliced(const Tensor& x, const Tensor& y, int64_t num_directions, Rng& rng) {
  const std::string where = "w2_sliced";
  if (num_directions < 1) {
    throw ConfigError(where + ": num_directions = " + std::to_string(num_directions) +
                      ", must be >= 1");
  }
  const Tensor points = detail::finite_points(where, "x", x);
  const Tensor others = detail::finite_points(where, "y", y);
  detail::require_alike(where, points, others, true);
  const Tensor normal =
      rng.normal_like(torch::empty({num_directions, points.size(1)}, torch::kFloat64));
  return detail::w2_along(points, others, normal / normal.norm(2, 1, true));
}

double detail::w2_along(const Tensor& x, const Tensor& y, const Tensor& directions) {
  double total = 0.0;
  for (int64_t k = 0; k < directions.size(0); ++k) {
    const Tensor direction = directions[k];
    const Tensor a = std::get<0>(torch::mv(x, direction).sort());
    const Tensor b = std::get<0>(torch::mv(y, direction).sort());
    total += (a - b).square().mean().item<double>();
  }
  return std::sqrt(total / static_cast<double>(directions.size(0)));
}

}  // namespace motet
