// Reference pairs: what the program returned where it was made, for the inputs stored with it. They
// show that this file, on this torch and this machine, is the program that motet.json speaks of.
#include <ATen/ops/isfinite.h>
#include <torch/types.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <utility>

#include "error_shape.hpp"
#include "io_detail.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "nets/pieces.hpp"
#include "pretrained_program_file.hpp"

namespace motet::detail {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

std::string short_number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3g", value);
  return text;
}

// Takes a tensor out of the file: (kNumPairs, *shape) of this dtype, finite.
at::Tensor take(Tensors& tensors, const std::string& name, const std::vector<int64_t>& shape,
                at::ScalarType dtype, const std::string& where) {
  const auto found = tensors.find(name);
  const std::vector<int64_t> expected = with_rows(kNumPairs, shape);
  const std::string wanted = dtype_text(dtype) + " " + shape_text(expected);
  if (found == tensors.end()) {
    throw DataError(where + "tensor " + quoted_text(name) + ", " + wanted + ", is missing");
  }
  const at::Tensor tensor = found->second;
  tensors.erase(found);
  if (tensor.sizes() != at::IntArrayRef(expected) || tensor.scalar_type() != dtype) {
    throw DataError(where + "tensor " + quoted_text(name) + " is " +
                    dtype_text(tensor.scalar_type()) + " " + shape_text(tensor.sizes()) +
                    ", must be " + wanted);
  }
  if (!at::isfinite(tensor).all().item<bool>()) {
    throw DataError(where + "tensor " + quoted_text(name) + " has numbers that are not finite");
  }
  return tensor;
}

void check_times(const at::Tensor& time, const std::vector<double>& levels,
                 const std::string& where) {
  std::set<float> known;
  for (const double level : levels) {
    known.insert(static_cast<float>(level));
  }
  for (int64_t i = 0; i < kNumPairs; ++i) {
    const auto value = time[i].item<float>();
    if (!known.contains(value)) {
      throw DataError(where + "time " + short_number(value) + " of pair " + std::to_string(i + 1) +
                      " is none of motet.json's times; the two files are of different exports");
    }
  }
}

// The results of one call for the pairs; rows that a fixed batch size has more are copies.
class Replay {
 public:
  Replay(const Program& program, const ProgramFile& file, const ProgramPairs& pairs,
         const std::string& prefix)
      : program_(program), spec_(file.spec), prefix_(prefix) {
    const bool residual = file.output.prediction == Prediction::energy_residual;
    for (int64_t first = 0; first < kNumPairs; first += rows()) {
      const auto batch = [&](const at::Tensor& pair) {
        return pair.index_select(0, rows_from(first)).to(program.device());
      };
      std::vector<at::Tensor> inputs;
      for (const at::Tensor& input : pairs.inputs) {
        inputs.push_back(batch(input));
      }
      add(batch(pairs.x), batch(pairs.time), inputs, residual, std::min(rows(), kNumPairs - first));
    }
  }

  // The largest difference between what came and what was expected, over all pairs.
  void check(const std::string& what, const std::vector<at::Tensor>& parts,
             const at::Tensor& expected) const {
    const at::Tensor found = at::cat(parts).to(at::kDouble);
    const at::Tensor wanted = expected.to(at::kDouble);
    const at::Tensor differences = (found - wanted).abs().reshape({kNumPairs, -1}).amax(1);
    const double scale = std::max(wanted.abs().max().item<double>(), 1e-30);
    const double tolerance = pair_tolerance(spec_.dtype, program_.device());
    for (int64_t i = 0; i < kNumPairs; ++i) {
      const double share = differences[i].item<double>() / scale;
      if (share <= tolerance) {  // false for NaN too
        continue;
      }
      throw DataError(
          prefix_ + "reference pair " + std::to_string(i + 1) + " of " + std::to_string(kNumPairs) +
          " is not reproduced: its " + what + " differs by " +
          short_number(differences[i].item<double>()) + ", " + short_number(share) +
          " of the largest, must be at most " + short_number(tolerance) +
          "; the program, its motet.json and its pairs are of different exports, or this torch or "
          "device computes it differently. Export it again");
    }
  }

  std::vector<at::Tensor> outputs, energies, gradients;

 private:
  int64_t rows() const { return spec_.batch_size > 0 ? spec_.batch_size : kNumPairs; }

  at::Tensor rows_from(int64_t first) const {
    return at::arange(first, first + rows(), at::kLong).clamp_max(kNumPairs - 1);
  }

  void add(const at::Tensor& x, const at::Tensor& time, const std::vector<at::Tensor>& inputs,
           bool residual, int64_t rows) {
    const auto own = [rows](const at::Tensor& result) {
      return result.detach().narrow(0, 0, rows).to(at::kCPU);
    };
    if (spec_.returns == ProgramReturns::output) {
      const at::NoGradGuard no_graph;
      outputs.push_back(own(call_program(program_, spec_, x, time, inputs, prefix_)[0]));
      return;
    }
    const EnergyPass pass =
        call_energy(program_, spec_, x, time, inputs, program_energy(spec_, residual), prefix_);
    energies.push_back(own(pass.energy));
    gradients.push_back(own(pass.gradient));
  }

  const Program& program_;
  const ProgramSpec& spec_;
  const std::string& prefix_;
};

}  // namespace

ProgramPairs read_program_pairs(const std::string& path, const ProgramFile& file,
                                const std::string& prefix) {
  const std::string where = prefix + "reference pairs: ";
  if (!path_exists(path)) {
    throw DataError(where + "the file beside it, " + path +
                    ", is missing; export the program again");
  }
  Tensors tensors = read_safetensors(path).tensors;
  const ProgramSpec& spec = file.spec;
  ProgramPairs pairs;
  pairs.x = take(tensors, "x", spec.event_shape, at::kFloat, where);
  pairs.time = take(tensors, "time", {}, at::kFloat, where);
  check_times(pairs.time, file.output.times, where);
  for (const ProgramInput& input : spec.inputs) {
    pairs.inputs.push_back(
        take(tensors, "input." + input.spec.name, input.spec.shape, input.dtype, where));
  }
  if (spec.returns == ProgramReturns::output) {
    pairs.output = take(tensors, "output", spec.output_shape, at::kFloat, where);
  } else {
    pairs.energy = take(tensors, "energy", {}, at::kFloat, where);
    pairs.gradient = take(tensors, "gradient", spec.event_shape, at::kFloat, where);
  }
  if (!tensors.empty()) {
    throw DataError(where + "tensor " + quoted_text(tensors.begin()->first) +
                    " is of no input and no result of the program");
  }
  return pairs;
}

double pair_tolerance(at::ScalarType dtype, const at::Device& device) {
  switch (dtype) {
    case at::kDouble:
      return 1e-6;
    case at::kHalf:
      return 1e-2;
    case at::kBFloat16:
      return 5e-2;
    default:
      return device.is_cuda() ? 5e-3 : 1e-4;
  }
}

void replay_pairs(const Program& program, const ProgramFile& file, const ProgramPairs& pairs,
                  const std::string& prefix) {
  const Replay replay(program, file, pairs, prefix);
  if (file.spec.returns == ProgramReturns::output) {
    replay.check("output", replay.outputs, pairs.output);
    return;
  }
  replay.check("energy", replay.energies, pairs.energy);
  replay.check("gradient", replay.gradients, pairs.gradient);
}

}  // namespace motet::detail
