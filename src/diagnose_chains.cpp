// Convergence statistics of Vehtari et al. (2021), in the order of arviz-stats, to whose numbers
// they are equal: chains are split in halves; bulk quantities are of normal scores
//   z = Phi^-1((rank - 3/8) / (S + 1/4)),  ties sharing their mean rank;
// with W the mean within-chain and B/n the between-chain variance,
//   R-hat = sqrt((B/W + n - 1) / n),
//   ESS = S / tau, tau = -1 + 2 sum_t rho_t, rho_t = 1 - (W - mean autocovariance_t) / var+,
// cut by Geyer's initial monotone sequence, tau >= 1 / log10(S).
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <sstream>

#include "diagnose_detail.hpp"
#include "motet/error.hpp"

namespace motet {
namespace {

constexpr int64_t kMinDraws = 4;

Tensor checked(const char* function, const Tensor& draws, int64_t min_chains) {
  if (!draws.defined() || draws.dim() != 2 || !draws.is_floating_point() ||
      draws.size(0) < min_chains || draws.size(1) < kMinDraws) {
    std::ostringstream text;
    text << function << ": draws ";
    if (draws.defined()) {
      text << "is " << draws.scalar_type() << " of shape " << draws.sizes();
    } else {
      text << "is undefined";
    }
    text << ", must be a floating-point tensor (num_chains, num_draws) with num_chains >= "
         << min_chains << " and num_draws >= " << kMinDraws;
    throw ShapeError(text.str());
  }
  const Tensor table = draws.detach().to(at::kCPU, at::kDouble).contiguous();
  const int64_t num_bad = at::isfinite(table).logical_not().sum().item<int64_t>();
  if (num_bad > 0) {
    throw NumericalError(std::string(function) + ": " + std::to_string(num_bad) + " of " +
                         std::to_string(table.numel()) +
                         " draws are not finite; leave out the chains that hold them, and say so");
  }
  return table;
}

// The first and the last halves of the chains below each other; a middle draw is dropped.
Tensor split_chains(const Tensor& draws) {
  const int64_t half = draws.size(1) / 2;
  return at::cat({draws.narrow(1, 0, half), draws.narrow(1, draws.size(1) - half, half)}, 0);
}

// Ranks from 1, tied values sharing their mean.
std::vector<double> ranks(const double* values, size_t size) {
  std::vector<size_t> order(size);
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> result(size);
  for (size_t first = 0; first < size;) {
    size_t last = first;
    while (last + 1 < size && values[order[last + 1]] == values[order[first]]) {
      ++last;
    }
    for (size_t i = first; i <= last; ++i) {
      result[order[i]] = 0.5 * static_cast<double>(first + last) + 1.0;
    }
    first = last + 1;
  }
  return result;
}

Tensor normal_scores(const Tensor& draws) {
  const Tensor flat = draws.contiguous();
  const auto rank = ranks(flat.const_data_ptr<double>(), static_cast<size_t>(flat.numel()));
  constexpr double kOffset = 3.0 / 8.0;  // Blom (1958)
  const double total = static_cast<double>(rank.size()) - 2.0 * kOffset + 1.0;
  return at::special_ndtri((at::tensor(rank, at::kDouble) - kOffset) / total).view(draws.sizes());
}

double middle_of(const Tensor& draws) {
  return detail::quantile(detail::sorted_finite(draws), 0.5);
}

double plain_rhat(const Tensor& chains) {
  const auto n = static_cast<double>(chains.size(1));
  const double between = n * chains.mean(1).var().item<double>();
  const double within = chains.var(1).mean().item<double>();
  return std::sqrt((between / within + n - 1.0) / n);
}

// Mean over chains of the autocovariances at every lag, divisor n.
std::vector<double> mean_autocovariance(const Tensor& chains) {
  const int64_t n = chains.size(1);
  const Tensor centred = chains - chains.mean(1, /*keepdim=*/true);
  const Tensor spectrum = at::fft_rfft(centred, 2 * n, 1);
  const Tensor covariance = at::fft_irfft(at::real(spectrum * spectrum.conj()), 2 * n, 1)
                                .narrow(1, 0, n)
                                .div(static_cast<double>(n))
                                .mean(0)
                                .contiguous();
  const double* data = covariance.const_data_ptr<double>();
  return {data, data + n};
}

// Geyer's (1992) sequence: sums of neighbouring pairs positive and falling.
double correlation_time(const std::vector<double>& covariance, double within, double total) {
  const auto n = static_cast<int64_t>(covariance.size());
  const auto rho_at = [&](int64_t lag) {
    return 1.0 - (within - covariance[static_cast<size_t>(lag)]) / total;
  };
  std::vector<double> rho(static_cast<size_t>(n) + 2, 0.0);
  double even = 1.0;
  double odd = rho_at(1);
  rho[0] = even;
  rho[1] = odd;
  int64_t t = 1;
  for (; t < n - 3 && even + odd > 0.0; t += 2) {
    even = rho_at(t + 1);
    odd = rho_at(t + 2);
    if (even + odd >= 0.0) {
      rho[static_cast<size_t>(t + 1)] = even;
      rho[static_cast<size_t>(t + 2)] = odd;
    }
  }
  const int64_t last = t - 2;
  if (even > 0.0) {
    rho[static_cast<size_t>(last + 1)] = even;
  }
  for (int64_t k = 1; k <= last - 2; k += 2) {
    const auto i = static_cast<size_t>(k);
    if (rho[i + 1] + rho[i + 2] > rho[i - 1] + rho[i]) {
      rho[i + 1] = rho[i + 2] = 0.5 * (rho[i - 1] + rho[i]);
    }
  }
  const auto end = rho.begin() + last + 1;
  return -1.0 + 2.0 * std::accumulate(rho.begin(), end, 0.0) + *end;
}

double effective_size(const Tensor& chains) {
  const auto size = static_cast<double>(chains.numel());
  constexpr double kResolution = 1e-15;  // numpy's finfo(float64).resolution
  if ((chains.max() - chains.min()).item<double>() < kResolution) {
    return size;
  }
  const auto n = static_cast<double>(chains.size(1));
  const std::vector<double> covariance = mean_autocovariance(chains);
  const double within = covariance[0] * n / (n - 1.0);
  double total = covariance[0];
  if (chains.size(0) > 1) {
    total += chains.mean(1).var().item<double>();
  }
  return size / std::max(correlation_time(covariance, within, total), 1.0 / std::log10(size));
}

double quantile_size(const Tensor& table, double prob) {
  const double bound = detail::quantile(detail::sorted_finite(table), prob);
  return effective_size(split_chains(table.le(bound).to(at::kDouble)));
}

}  // namespace

double rhat(const Tensor& draws) {
  const Tensor halves = split_chains(checked("rhat", draws, 2));
  const Tensor folded = (halves - middle_of(halves)).abs();
  return std::max(plain_rhat(normal_scores(halves)), plain_rhat(normal_scores(folded)));
}

double ess_bulk(const Tensor& draws) {
  return effective_size(normal_scores(split_chains(checked("ess_bulk", draws, 1))));
}

double ess_tail(const Tensor& draws) {
  const Tensor table = checked("ess_tail", draws, 1);
  constexpr double kTail = 0.05;
  return std::min(quantile_size(table, kTail), quantile_size(table, 1.0 - kTail));
}

double mcse_mean(const Tensor& draws) {
  const Tensor table = checked("mcse_mean", draws, 1);
  return table.std().item<double>() / std::sqrt(effective_size(split_chains(table)));
}

// Delta method on the variance (Kenney and Keeping 1951).
double mcse_sd(const Tensor& draws) {
  const Tensor table = checked("mcse_sd", draws, 1);
  const Tensor square = (table - table.mean()).square();
  const double variance = square.mean().item<double>();
  const double spread = square.square().mean().item<double>() - variance * variance;
  return std::sqrt(spread / effective_size(split_chains(table)) / variance / 4.0);
}

double mcse_quantile(const Tensor& draws, double prob) {
  if (!(prob > 0.0 && prob < 1.0)) {
    throw ConfigError("mcse_quantile: prob = " + std::to_string(prob) + ", must be in (0, 1)");
  }
  const Tensor table = checked("mcse_quantile", draws, 1);
  const double ess = quantile_size(table, prob);
  const std::vector<double> sorted = detail::sorted_finite(table);
  const double last = static_cast<double>(sorted.size()) - 1.0;
  // Half the interval between the quantiles that are one standard error apart from prob; the
  // digits are arviz's.
  const auto place = [&](double share) {
    return detail::beta_quantile(share, ess * prob + 1.0, ess * (1.0 - prob) + 1.0) * (last + 1.0) -
           1.0;
  };
  const auto low = static_cast<size_t>(std::floor(std::max(place(0.1586553), 0.0)));
  const auto high = static_cast<size_t>(std::ceil(std::min(place(0.8413447), last)));
  return 0.5 * (sorted[high] - sorted[low]);
}

Estimate over_islands(const Tensor& values) {
  if (!values.defined() || values.dim() != 1 || values.size(0) < 2 || !values.is_floating_point()) {
    std::ostringstream text;
    text << "over_islands: values ";
    if (values.defined()) {
      text << "is " << values.scalar_type() << " of shape " << values.sizes();
    } else {
      text << "is undefined";
    }
    text << ", must be a floating-point tensor (num_islands) with num_islands >= 2";
    throw ShapeError(text.str());
  }
  const Tensor table = values.detach().to(at::kCPU, at::kDouble);
  return {table.mean().item<double>(),
          table.std().item<double>() / std::sqrt(static_cast<double>(table.size(0)))};
}

}  // namespace motet
