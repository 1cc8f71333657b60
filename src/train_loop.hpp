// The loop that every network is trained by: draws, Adam, the average, held-out losses.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "motet/train.hpp"
#include "train_pass.hpp"

namespace motet::detail {

/// A network in training: its tensors, its passes and what it asks of the data.
struct Trainee {
  std::vector<Parameter> layout;
  std::vector<int64_t> event_shape;
  std::unique_ptr<GradientPass> pass;
  /// Makes the pass of the held-out loss, at its first use.
  std::function<std::unique_ptr<GradientPass>()> make_held_out_pass;
  int64_t num_classes = 0;     ///< > 0: the data are LabelledData, their labels below this
  int64_t condition_dim = 0;   ///< > 0: the data are ConditionedData of so many numbers
  int64_t held_out_bands = 0;  ///< of the levels, one loss each
};

/// Weights, average and moments of the tensors, all zero, under the names of TrainState::tensors.
std::map<std::string, at::Tensor> zero_tensors(const std::vector<Parameter>& layout);

/// A loss for every level, or for schedules of more than 100 levels for every tenth of them.
int64_t held_out_bands(int64_t num_levels);

/// Throws ConfigError for a number that is out of range; the sizes of networks are not looked at.
void check_numbers(const TrainConfig& config);

/// Trains from `start` to config.num_steps; what train() says of bits, steps and errors holds.
TrainState train_loop(const TrainConfig& config, Trainee trainee, const DataSet& data,
                      const TrainState& start, const TrainObserver& observer);

}  // namespace motet::detail
