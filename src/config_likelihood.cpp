// [model.NAME] tables with likelihood = ... -> a Likelihood. Whatever does not fit is told with the
// line it stands in, before the makers of likelihoods would refuse it.
#include "config_likelihood.hpp"

#include <torch/types.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <map>
#include <set>
#include <vector>

#include "config_keys.hpp"
#include "config_laws.hpp"
#include "error_shape.hpp"
#include "motet/io.hpp"

namespace motet::detail {
namespace {

using Numbers = std::vector<double>;
using Integers = std::vector<int64_t>;

const std::map<std::string, std::vector<std::string>>& parameters() {
  static const std::map<std::string, std::vector<std::string>> table = {
      {"linear_gaussian",
       {"matrix", "observed", "event_dim", "observation", "noise_sd", "approximation", "prior_sd"}},
      {"box", {"low", "high", "approximation", "prior_sd"}}};
  return table;
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  }
  return text;
}

// Any key of the table but `allowed`, its own and the exponent would have no effect.
void refuse_other_keys(const Settings& settings, const std::string& prefix,
                       const std::string& likelihood) {
  const std::vector<std::string>& allowed = parameters().at(likelihood);
  for (const auto& [name, value] : settings.resolved()) {
    if (name.rfind(prefix, 0) != 0 || !settings.given(name)) {
      continue;
    }
    const std::string key = name.substr(prefix.size());
    if (key != "likelihood" && key != "exponent" &&
        std::find(allowed.begin(), allowed.end(), key) == allowed.end()) {
      settings.fail(name, "but it is no parameter of likelihood \"" + likelihood +
                              "\"; that takes " + listed(allowed));
    }
  }
}

// Keys of a likelihood in a table that has none. A box's are also a law's, which looks after them.
void refuse_all_keys(const Settings& settings, const std::string& prefix) {
  for (const std::string& key : parameters().at("linear_gaussian")) {
    if (settings.given(prefix + key)) {
      settings.fail(prefix + key, "but " + prefix +
                                      "likelihood is not given; add likelihood = "
                                      "\"linear_gaussian\"");
    }
  }
}

Tensor to_tensor(const Numbers& values) { return at::tensor(values, at::kDouble); }

Tensor read_file_of(const Settings& settings, const std::string& name,
                    const std::string& directory) {
  const std::filesystem::path given(settings.get<std::string>(name));
  const auto path = given.is_absolute() ? given : std::filesystem::path(directory) / given;
  return read_npy(path.string());
}

Tensor read_matrix(const Settings& settings, const std::string& name,
                   const std::string& directory) {
  if (settings.holds<std::string>(name)) {
    const Tensor matrix = read_file_of(settings, name, directory);
    if (matrix.dim() != 2) {
      settings.fail(name, "holds shape " + shape_text(matrix.sizes()) + ", must be (m, d)");
    }
    return matrix;
  }
  return rows_as_matrix(settings, name);
}

// One of matrix and observed, as the number of measurements and what messages count them by.
struct Seen {
  Tensor matrix;      // undefined for a mask
  Integers observed;  // of a mask
  int64_t event_dim = 0;
  int64_t m = 0;
  std::string counted;
};

Seen read_mask(const Settings& settings, const std::string& prefix) {
  Seen seen;
  seen.observed = settings.get<Integers>(prefix + "observed");
  if (!settings.given(prefix + "event_dim")) {
    settings.fail(prefix + "event_dim", "is missing; observed needs it");
  }
  seen.event_dim = settings.get<int64_t>(prefix + "event_dim");
  const std::set<int64_t> distinct(seen.observed.begin(), seen.observed.end());
  if (distinct.size() != seen.observed.size() || *distinct.rbegin() >= seen.event_dim) {
    settings.fail(prefix + "observed", "must name coordinates below event_dim = " +
                                           std::to_string(seen.event_dim) + ", each once");
  }
  seen.m = static_cast<int64_t>(seen.observed.size());
  seen.counted = "entries of observed";
  return seen;
}

Seen read_seen(const Settings& settings, const std::string& prefix, const std::string& directory) {
  const bool has_matrix = settings.given(prefix + "matrix");
  const bool has_mask = settings.given(prefix + "observed");
  if (has_matrix && has_mask) {
    settings.fail(prefix + "observed", "but matrix is given too; leave one out");
  }
  if (has_mask) {
    return read_mask(settings, prefix);
  }
  if (!has_matrix) {
    settings.fail(prefix + "matrix", "is missing; linear_gaussian needs matrix or observed");
  }
  if (settings.given(prefix + "event_dim")) {
    settings.fail(prefix + "event_dim", "but it belongs to observed; matrix has d columns");
  }
  Seen seen;
  seen.matrix = read_matrix(settings, prefix + "matrix", directory);
  seen.m = seen.matrix.size(0);
  seen.counted = "rows of matrix";
  return seen;
}

Tensor read_observation(const Settings& settings, const std::string& name, const Seen& seen,
                        const std::string& directory) {
  const Tensor observation = settings.holds<std::string>(name)
                                 ? read_file_of(settings, name, directory)
                                 : to_tensor(settings.get<Numbers>(name));
  if (observation.dim() != 1 || observation.size(0) != seen.m) {
    settings.fail(
        name, "must have one entry for each of the " + std::to_string(seen.m) + " " + seen.counted);
  }
  return observation;
}

Tensor read_noise_sd(const Settings& settings, const std::string& name, const Seen& seen) {
  if (settings.holds<double>(name)) {
    return to_tensor({settings.get<double>(name)});
  }
  const auto values = settings.get<Numbers>(name);
  if (static_cast<int64_t>(values.size()) != seen.m) {
    settings.fail(name, "must be one number, or one for each of the " + std::to_string(seen.m) +
                            " " + seen.counted);
  }
  return to_tensor(values);
}

LikelihoodConfig read_config(const Settings& settings, const std::string& prefix) {
  LikelihoodConfig config;
  if (settings.given(prefix + "approximation")) {
    config.approximation =
        likelihood_approximation_from(settings.get<std::string>(prefix + "approximation"));
  }
  if (settings.given(prefix + "prior_sd")) {
    if (config.approximation == LikelihoodApproximation::flat) {
      settings.fail(prefix + "prior_sd", "but approximation = \"flat\" has no use for it");
    }
    config.prior_sd = settings.get<double>(prefix + "prior_sd");
  }
  return config;
}

LikelihoodPtr read_linear_gaussian(const Settings& settings, const std::string& prefix,
                                   const std::string& name, const std::string& directory) {
  const Seen seen = read_seen(settings, prefix, directory);
  for (const char* key : {"observation", "noise_sd"}) {
    if (!settings.given(prefix + key)) {
      settings.fail(prefix + key, "is missing; linear_gaussian needs observation and noise_sd");
    }
  }
  const LikelihoodConfig config = read_config(settings, prefix);
  const Tensor observation = read_observation(settings, prefix + "observation", seen, directory);
  const Tensor noise_sd = read_noise_sd(settings, prefix + "noise_sd", seen);
  return seen.matrix.defined() ? linear_gaussian(seen.matrix, observation, noise_sd, config, name)
                               : linear_gaussian(seen.observed, {seen.event_dim}, observation,
                                                 noise_sd, config, name);
}

LikelihoodPtr read_box(const Settings& settings, const std::string& prefix,
                       const std::string& name) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const bool has_low = settings.given(prefix + "low");
  const bool has_high = settings.given(prefix + "high");
  if (!has_low && !has_high) {
    settings.fail(prefix + "low", "is missing; box needs low, high or both");
  }
  Numbers low = has_low ? settings.get<Numbers>(prefix + "low") : Numbers{};
  Numbers high = has_high ? settings.get<Numbers>(prefix + "high") : Numbers{};
  low.resize(has_low ? low.size() : high.size(), -kInf);
  high.resize(has_high ? high.size() : low.size(), kInf);
  if (low.size() != high.size()) {
    settings.fail(prefix + "high", "must have as many entries as low");
  }
  for (size_t i = 0; i < low.size(); ++i) {
    if (!(low[i] < high[i])) {
      settings.fail(prefix + (has_high ? "high" : "low"),
                    has_high ? "must be above low in every coordinate" : "must be below inf");
    }
  }
  const LikelihoodConfig config = read_config(settings, prefix);
  if (config.approximation == LikelihoodApproximation::dps) {
    settings.fail(prefix + "approximation",
                  "would be hard at every level; use \"tweedie\" or \"flat\" for a box");
  }
  return region_box(to_tensor(low), to_tensor(high), config, name);
}

}  // namespace

LikelihoodPtr read_likelihood(const Settings& settings, const std::string& prefix,
                              const std::string& name, const std::string& directory) {
  if (!settings.given(prefix + "likelihood")) {
    refuse_all_keys(settings, prefix);
    return nullptr;
  }
  const auto likelihood = settings.get<std::string>(prefix + "likelihood");
  refuse_other_keys(settings, prefix, likelihood);
  return likelihood == "box" ? read_box(settings, prefix, name)
                             : read_linear_gaussian(settings, prefix, name, directory);
}

}  // namespace motet::detail
