// Compositions whose laws are known: hidden laws, what tracked models should track, laws of the line
// by quadrature.
#pragma once

#include <functional>
#include <vector>

#include "motet/compose.hpp"
#include "motet/model.hpp"
#include "motet/rng.hpp"

namespace motet::testing {

/// A leaf that shows the score of a law, and (`is_energy`) its log density up to a constant that
/// depends on the level, as an energy network does. The law stays known to the test.
class HiddenLaw : public Model {
 public:
  explicit HiddenLaw(AnalyticPtr law, bool is_energy = false)
      : law_(std::move(law)), is_energy_(is_energy) {}
  Eval evaluate(const Tensor& x, const NoiseLevel& level) const override;
  bool is_exact() const override { return is_energy_; }
  std::vector<int64_t> event_shape() const override { return law_->event_shape(); }
  std::string describe() const override { return law_->describe(); }
  const AnalyticModel& law() const { return *law_; }

 private:
  AnalyticPtr law_;
  bool is_energy_;
};
ModelPtr hidden(const AnalyticPtr& law);
ModelPtr energy(const AnalyticPtr& law);

/// The true log densities of the tracked leaves of `model`, all of which must be HiddenLaws: (B, n)
/// float64.
Tensor exact_ledger(const ModelPtr& model, const Tensor& x, const NoiseLevel& level);
/// `model` at x with a ledger without error; evaluate() where nothing is tracked.
Eval exact_eval(const ModelPtr& model, const Tensor& x, const NoiseLevel& level);

/// Log densities in x, up to a constant, written down apart from the models under test.
using LogDensity = std::function<Tensor(const Tensor& x, const NoiseLevel& level)>;
LogDensity log_density_of(const ModelPtr& model);
struct LogFactor {
  LogDensity log_density;
  double exponent = 1.0;
};
LogDensity log_product(std::vector<LogFactor> factors);
struct LogComponent {
  double weight = 1.0;
  LogDensity log_density;
};
LogDensity log_mixture(std::vector<LogComponent> components);

/// A law of the line, on a grid of [low, high]; the trapezoid rule is exact to 1e-12 for smooth laws
/// that vanish at both ends.
struct GridLaw {
  Tensor points;        ///< (n) float64, equidistant
  Tensor shares;        ///< (n) float64: probabilities of the points, sum 1
  double log_integral;  ///< of exp(log density)
  double mean() const;
  double sd() const;
  double share_below(double bound) const;
  /// (num_draws, 1): the quantiles at (i + .5) / num_draws, in random order.
  Tensor draws(int64_t num_draws, Rng& rng) const;
};
GridLaw grid_law(const LogDensity& log_density, const NoiseLevel& level, double low = -8.0,
                 double high = 8.0);

/// Log integral over x / sqrt(alpha_bar) of a law of the line that counts as `count` densities.
double log_integral(const LogDensity& log_density, const NoiseLevel& level, double count);
/// The same at all levels of `schedule`: the table of normalised().
LogNormalisers log_integrals(const LogDensity& log_density, const NoiseSchedule& schedule,
                             double count);

}  // namespace motet::testing
