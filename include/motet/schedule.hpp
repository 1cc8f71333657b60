// Variance-preserving noise schedules; a level carries its numbers.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace motet {

/// One noise level: x_t = sqrt(alpha_bar) x_0 + sigma n. Level 0 has the least noise and is not the
/// data.
struct NoiseLevel {
  int64_t index = 0;
  double alpha_bar = 1.0;  ///< in (0, 1) in every schedule; the default 1 is the noise-free data
  double beta = 0.0;       ///< 1 - alpha_bar / alpha_bar of the level below in the full schedule
  double sigma() const { return std::sqrt(1.0 - alpha_bar); }
};

/// A discrete variance-preserving schedule: levels 0 .. num_levels-1 with falling alpha_bar. Value
/// type.
class NoiseSchedule {
 public:
  /// alpha_bar(u) = cos^2(((u+s)/(1+s)) pi/2) / cos^2((s/(1+s)) pi/2) at u = (t+1)/T, beta_t
  /// clipped at max_beta (Nichol and Dhariwal 2021, eq. 17). Throws ConfigError for num_levels < 1,
  /// an offset that is negative or not finite, and max_beta outside (0, 1).
  static NoiseSchedule cosine(int64_t num_levels, double offset = 0.008, double max_beta = 0.999);
  /// beta linear from beta_first to beta_last (Ho et al. 2020). Throws ConfigError for
  /// num_levels < 1, beta_first outside (0, 1) and beta_last outside [beta_first, 1).
  static NoiseSchedule linear(int64_t num_levels, double beta_first = 1e-4,
                              double beta_last = 0.02);
  /// sqrt(beta) linear (Rombach et al. 2022; "scaled_linear" of diffusers). Throws as linear.
  static NoiseSchedule scaled_linear(int64_t num_levels, double beta_first = 0.00085,
                                     double beta_last = 0.012);
  /// Explicit alpha_bars, strictly falling, all in (0, 1). Throws ConfigError for none, else naming
  /// the first bad index.
  static NoiseSchedule from_alpha_bars(std::vector<double> alpha_bars);

  int64_t num_levels() const { return static_cast<int64_t>(alpha_bars_.size()); }
  /// Throws ConfigError when index is outside 0 .. num_levels-1.
  NoiseLevel level(int64_t index) const;
  const std::vector<double>& alpha_bars() const { return alpha_bars_; }
  /// "cosine(100, offset=0.008, max_beta=0.999)", for reports.
  const std::string& describe() const { return description_; }
  /// Same alpha_bars to 7e-7, whatever the name: other codes multiply them in float32.
  bool same_levels(const NoiseSchedule& other) const;

 private:
  NoiseSchedule(std::vector<double> alpha_bars, std::string description);
  std::vector<double> alpha_bars_;
  std::string description_;
};

}  // namespace motet
