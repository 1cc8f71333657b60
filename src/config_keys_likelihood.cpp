// Keys of [model.NAME] tables that are measurements or regions. A box's corners, low and high, are
// the same keys as uniform_box's (config_keys.cpp).
#include "config_keys.hpp"

namespace motet::detail {

std::vector<Key> likelihood_keys() {
  using enum KeyType;
  return {
      {.name = "model.*.likelihood",
       .types = {text},
       .choices = {"linear_gaussian", "box"},
       .doc = "what is known of the data, instead of a factor: a measurement y = A x_0 + n, or a "
              "box that holds x_0 (docs/conditioning.md)"},
      {.name = "model.*.matrix",
       .types = {rows, text},
       .doc = "linear_gaussian: A (m, d), or its .npy file, relative to the config"},
      {.name = "model.*.observed",
       .types = {integers},
       .range = {.low = 0.0, .high = kMaxCount},
       .doc = "linear_gaussian: in place of matrix, the coordinates that are seen, from 0"},
      {.name = "model.*.event_dim",
       .types = {integer},
       .range = {.low = 1.0, .high = kMaxCount},
       .doc = "linear_gaussian with observed: coordinates of a sample"},
      {.name = "model.*.mask",
       .types = {text},
       .doc = "linear_gaussian: in place of observed, a .png or .npy file whose pixels above mid "
              "grey, or entries > 0, are seen; needs event_shape"},
      {.name = "model.*.event_shape",
       .types = {integers},
       .range = {.low = 1.0, .high = kMaxCount},
       .doc = "laws and likelihoods: sizes of an event, (channels, height, width) of an image, in "
              "place of d numbers in a row (docs/images.md)"},
      {.name = "model.*.observation",
       .types = {numbers, text},
       .doc =
           "linear_gaussian: y (m), or its file, relative to the config: .npy (m), or with a mask "
           "a whole image, .npy or .png (black -1, white 1)"},
      {.name = "model.*.noise_sd",
       .types = {number, numbers},
       .range = kPositive,
       .doc = "linear_gaussian: standard deviation of the noise n, one or (m)"},
      {.name = "model.*.approximation",
       .types = {text},
       .choices = {"tweedie", "dps", "flat"},
       .doc = "linear_gaussian, box: what is taken for p(y | x) at noisy x (\"tweedie\"); box: not "
              "dps"},
      {.name = "model.*.prior_sd",
       .types = {number},
       .range = kPositive,
       .doc = "linear_gaussian, box: standard deviation of the data about their mean (1.0); not "
              "with flat"},
  };
}

}  // namespace motet::detail
