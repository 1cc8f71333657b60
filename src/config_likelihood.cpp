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
#include "motet/image.hpp"
#include "motet/io.hpp"

namespace motet::detail {
namespace {

using Numbers = std::vector<double>;
using Integers = std::vector<int64_t>;

const std::map<std::string, std::vector<std::string>>& parameters() {
  static const std::map<std::string, std::vector<std::string>> table = {
      {"linear_gaussian",
       {"matrix", "observed", "mask", "event_dim", "event_shape", "observation", "noise_sd",
        "approximation", "prior_sd"}},
      {"box", {"low", "high", "event_shape", "approximation", "prior_sd"}}};
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

// Keys of a likelihood in a table that has none. A box's and event_shape are also a law's, which
// looks after them.
void refuse_all_keys(const Settings& settings, const std::string& prefix) {
  for (const std::string& key : parameters().at("linear_gaussian")) {
    if (key != "event_shape" && settings.given(prefix + key)) {
      settings.fail(prefix + key, "but " + prefix +
                                      "likelihood is not given; add likelihood = "
                                      "\"linear_gaussian\"");
    }
  }
}

Tensor to_tensor(const Numbers& values) { return at::tensor(values, at::kDouble); }

bool is_png(const std::filesystem::path& path) { return path.extension() == ".png"; }

// A .npy file's numbers; a .png file's, black as -1 and white as 1.
Tensor read_file_of(const Settings& settings, const std::string& name,
                    const std::string& directory) {
  const std::filesystem::path given(settings.get<std::string>(name));
  const auto path = given.is_absolute() ? given : std::filesystem::path(directory) / given;
  return is_png(path) ? values_of(read_png(path.string())) : read_npy(path.string());
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
  Tensor matrix;         // undefined for a mask
  Integers observed;     // of a mask
  Integers event_shape;  // of observed and mask
  int64_t m = 0;
  std::string counted;
};

Integers read_shape(const Settings& settings, const std::string& prefix) {
  const auto shape = settings.get<Integers>(prefix + "event_shape");
  if (shape.size() > 4) {
    settings.fail(prefix + "event_shape", "must be up to 4 sizes");
  }
  return shape;
}

Seen read_observed(const Settings& settings, const std::string& prefix) {
  Seen seen;
  seen.observed = settings.get<Integers>(prefix + "observed");
  const bool has_shape = settings.given(prefix + "event_shape");
  if (!has_shape && !settings.given(prefix + "event_dim")) {
    settings.fail(prefix + "event_dim", "is missing; observed needs it");
  }
  if (has_shape && settings.given(prefix + "event_dim")) {
    settings.fail(prefix + "event_dim", "but event_shape is given too; leave one out");
  }
  seen.event_shape = has_shape ? read_shape(settings, prefix)
                               : Integers{settings.get<int64_t>(prefix + "event_dim")};
  const int64_t size = c10::multiply_integers(seen.event_shape);
  const std::set<int64_t> distinct(seen.observed.begin(), seen.observed.end());
  if (distinct.size() != seen.observed.size() || *distinct.rbegin() >= size) {
    settings.fail(prefix + "observed",
                  "must name coordinates below " +
                      std::string(has_shape ? "the product of event_shape = " : "event_dim = ") +
                      std::to_string(size) + ", each once");
  }
  seen.m = static_cast<int64_t>(seen.observed.size());
  seen.counted = "entries of observed";
  return seen;
}

// What a mask's bright pixels, or entries > 0, show; one of a single channel is that of all.
Seen read_mask(const Settings& settings, const std::string& prefix, const std::string& directory) {
  const std::string name = prefix + "mask";
  Seen seen;
  if (!settings.given(prefix + "event_shape")) {
    settings.fail(prefix + "event_shape", "is missing; mask needs it");
  }
  seen.event_shape = read_shape(settings, prefix);
  const Tensor mask = read_file_of(settings, name, directory);
  const Integers one_channel(seen.event_shape.begin() + 1, seen.event_shape.end());
  Tensor whole = mask.gt(0.0);
  if (mask.dim() == static_cast<int64_t>(seen.event_shape.size()) && mask.size(0) == 1) {
    whole = whole[0];
  }
  if (whole.sizes() != at::IntArrayRef(seen.event_shape) &&
      whole.sizes() != at::IntArrayRef(one_channel)) {
    settings.fail(name, "holds shape " + shape_text(mask.sizes()) + ", must be event_shape " +
                            shape_text(seen.event_shape) + " or one channel of it");
  }
  const Tensor indices = whole.expand(seen.event_shape).flatten().nonzero().flatten().contiguous();
  seen.observed.assign(indices.const_data_ptr<int64_t>(),
                       indices.const_data_ptr<int64_t>() + indices.numel());
  if (seen.observed.empty()) {
    settings.fail(name, "shows nothing; pixels above mid grey, or entries > 0, are seen");
  }
  seen.m = static_cast<int64_t>(seen.observed.size());
  seen.counted = "pixels that the mask shows";
  return seen;
}

Seen read_seen(const Settings& settings, const std::string& prefix, const std::string& directory) {
  const bool has_matrix = settings.given(prefix + "matrix");
  const bool has_observed = settings.given(prefix + "observed");
  if (has_matrix && has_observed) {
    settings.fail(prefix + "observed", "but matrix is given too; leave one out");
  }
  if (settings.given(prefix + "mask")) {
    if (has_matrix || has_observed || settings.given(prefix + "event_dim")) {
      settings.fail(prefix + "mask", "but " +
                                         std::string(has_matrix     ? "matrix"
                                                     : has_observed ? "observed"
                                                                    : "event_dim") +
                                         " is given too; leave one out");
    }
    return read_mask(settings, prefix, directory);
  }
  if (has_observed) {
    return read_observed(settings, prefix);
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
  Tensor observation = settings.holds<std::string>(name) ? read_file_of(settings, name, directory)
                                                         : to_tensor(settings.get<Numbers>(name));
  if (!seen.observed.empty() && seen.event_shape.size() > 1 &&
      observation.sizes() ==
          at::IntArrayRef(seen.event_shape)) {  // a whole image: what is seen of it
    observation = observation.flatten().index_select(0, at::tensor(seen.observed));
  } else if (seen.matrix.defined() && observation.numel() == seen.m) {
    observation = observation.flatten();
  }
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

LikelihoodPtr with_event_shape(const Settings& settings, const std::string& prefix,
                               LikelihoodPtr likelihood) {
  const auto shape =
      read_event_shape(settings, prefix, c10::multiply_integers(likelihood->event_shape()));
  return shape ? reshaped(std::move(likelihood), *shape) : likelihood;
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
  if (!seen.matrix.defined()) {
    return linear_gaussian(seen.observed, seen.event_shape, observation, noise_sd, config, name);
  }
  return with_event_shape(settings, prefix,
                          linear_gaussian(seen.matrix, observation, noise_sd, config, name));
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
  return with_event_shape(settings, prefix,
                          region_box(to_tensor(low), to_tensor(high), config, name));
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
