// Classifiers of any architecture as likelihoods.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "motet/likelihood.hpp"
#include "nets/network.hpp"

namespace motet::detail {

/// What a network with an output a class says at each level.
struct ClassifierSpec {
  NoiseSchedule schedule;
  std::vector<double> times;  ///< the network's time at each level of the schedule
  int64_t label = 0;
};

/// log p(label | x_t) = log softmax(f(x_t, t))_label and its gradient by autograd, for a network of
/// output (K), trained on noised points (Dhariwal and Nichol 2021, section 4);
/// LikelihoodPath::joint. The softmax is in float64. Cost: a forward and a backward pass of each
/// piece of rows, whose graph is freed before the next one's. Throws ConfigError for an output that is no
/// classifier's, a label that it does not have and times that are not one a level.
LikelihoodPtr network_classifier(NetworkPtr network, ClassifierSpec spec, std::string name);

/// The same of an architecture and its weights. Throws also as bound_network(). On the CPU the bits
/// of a row do not depend on the batch.
LikelihoodPtr architecture_classifier(ArchitecturePtr architecture, const TensorMap& tensors,
                                      ClassifierSpec spec, std::string name,
                                      Compute compute = Compute::float32,
                                      const std::string& device = "cpu");

}  // namespace motet::detail
