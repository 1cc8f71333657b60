// Exported programs as networks. TorchScript is run as it is written, without the profiling
// executor: that rewrites a program at its second and third call, so a row's bits would depend on
// how often the program ran before, and its gradients on which rewrite they pass.
#include "nets/program.hpp"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/types.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "error_shape.hpp"
#include "motet/error.hpp"
#include "nets/pieces.hpp"
#include "nets/words.hpp"

namespace motet {
namespace {

using detail::EnergyPass;
using detail::Program;
using detail::ProgramKind;
using detail::ProgramReturns;
using detail::ProgramSpec;
using detail::quoted_text;
using detail::shape_text;

constexpr detail::Words<ProgramReturns, 3> kReturns = {
    {{ProgramReturns::output, "output"},
     {ProgramReturns::energy, "energy"},
     {ProgramReturns::energy_and_gradient, "energy_and_gradient"}}};

// The sentence in an error of torch's: its first line, or, where a program's own lines are shown
// before it, the last.
std::string sentence_of(const std::exception& error) {
  const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
  const std::string text = of_torch != nullptr ? of_torch->what_without_backtrace() : error.what();
  const bool is_traced = text.find("Traceback of TorchScript") != std::string::npos;
  const size_t end = text.find_last_not_of(" \n");
  const std::string trimmed = end == std::string::npos ? "" : text.substr(0, end + 1);
  const size_t line = is_traced ? trimmed.rfind('\n') : std::string::npos;
  const std::string first = trimmed.substr(0, trimmed.find('\n'));
  return quoted_text(line == std::string::npos ? first : trimmed.substr(line + 1));
}

// Runs function(), and turns what torch throws into a DataError "PREFIX WHAT SENTENCE".
template <class Function>
auto without_traces(const std::string& what, const Function& function) {
  try {
    return function();
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    // On the CPU torch tells of missing memory by the text alone.
    if (std::string_view(error.what()).find("can't allocate memory") != std::string_view::npos) {
      throw;
    }
    throw DataError(what + sentence_of(error));
  }
}

class TorchScript : public Program {
 public:
  TorchScript(const std::string& path, const at::Device& device, std::string prefix)
      : prefix_(std::move(prefix)), device_(device) {
    without_traces(prefix_ + "torch cannot load this TorchScript file: ", [&] {
      module_ = torch::jit::load(path, device);
      module_.eval();
      for (at::Tensor parameter : module_.parameters()) {
        parameter.requires_grad_(false);
      }
    });
    if (!module_.find_method("forward")) {
      throw DataError(prefix_ + "this TorchScript file has no method forward; export it again");
    }
  }

  std::vector<at::Tensor> run(const std::vector<at::Tensor>& arguments) const override {
    const torch::jit::GraphOptimizerEnabledGuard as_written(false);
    const std::vector<c10::IValue> values(arguments.begin(), arguments.end());
    const c10::IValue result = without_traces(
        prefix_ + "the program failed: ", [&] { return module_.get_method("forward")(values); });
    if (result.isTensor()) {
      return {result.toTensor()};
    }
    std::vector<at::Tensor> tensors;
    const auto add = [&](const c10::IValue& value) {
      if (!value.isTensor()) {
        throw DataError(prefix_ + "the program returns " + value.tagKind() +
                        ", must return a tensor or a tuple of tensors");
      }
      tensors.push_back(value.toTensor());
    };
    if (result.isTuple()) {
      for (const c10::IValue& value : result.toTupleRef().elements()) {
        add(value);
      }
    } else if (result.isTensorList()) {
      tensors = result.toTensorVector();
    } else {
      add(result);
    }
    return tensors;
  }

  ProgramKind kind() const override { return ProgramKind::torchscript; }
  at::Device device() const override { return device_; }
  int64_t num_arguments() const override {
    const auto& schema = module_.get_method("forward").function().getSchema();
    return static_cast<int64_t>(schema.arguments().size()) - 1;  // without self
  }

 private:
  std::string prefix_;
  at::Device device_;
  torch::jit::Module module_;
};

// The leaves of a tree of arguments as torch writes it: those without a type.
int64_t num_leaves(const nlohmann::json& node) {
  if (!node.is_object() || !node.contains("children_spec") || !node.contains("type")) {
    return 0;
  }
  if (node["type"].is_null()) {
    return 1;
  }
  int64_t leaves = 0;
  for (const nlohmann::json& child : node["children_spec"]) {
    leaves += num_leaves(child);
  }
  return leaves;
}

class AotInductor : public Program {
 public:
  AotInductor(const std::string& path, const at::Device& device, std::string prefix)
      : prefix_(std::move(prefix)), device_(device) {
    // Compiled code trusts its arguments: without this a wrong motet.json would make it read past
    // their ends. It is asked for by the environment only, and costs nothing beside a network.
    ::setenv("AOTI_RUNTIME_CHECK_INPUTS", "1", /*replace=*/0);
    without_traces(prefix_ + "torch cannot load this AOTInductor package: ", [&] {
      loader_ = std::make_unique<torch::inductor::AOTIModelPackageLoader>(path);
      const std::vector<std::string> call = loader_->get_call_spec();
      const nlohmann::json spec = call.empty() ? nlohmann::json() : nlohmann::json::parse(call[0]);
      num_arguments_ = spec.is_array() && spec.size() == 2 ? num_leaves(spec[1]) : 0;
    });
  }

  std::vector<at::Tensor> run(const std::vector<at::Tensor>& arguments) const override {
    const at::NoGradGuard no_graph;
    return without_traces(prefix_ + "the program failed: ",
                          [&] { return loader_->run(arguments); });
  }

  ProgramKind kind() const override { return ProgramKind::aot_inductor; }
  at::Device device() const override { return device_; }
  int64_t num_arguments() const override { return num_arguments_; }

 private:
  std::string prefix_;
  at::Device device_;
  std::unique_ptr<torch::inductor::AOTIModelPackageLoader> loader_;
  int64_t num_arguments_ = 0;
};

void check_result(const at::Tensor& result, const std::string& what, at::IntArrayRef expected,
                  const std::string& prefix) {
  if (!result.defined() || result.sizes() != expected || !result.is_floating_point()) {
    const std::string found = !result.defined() ? "nothing"
                                                : detail::dtype_text(result.scalar_type()) + " " +
                                                      shape_text(result.sizes());
    throw DataError(prefix + "the program returned " + found + " as its " + what +
                    ", motet.json says floats of shape " + shape_text(expected));
  }
}

// A row of what is allowed in the program's own dtype.
at::Tensor in_dtype(const detail::ProgramInput& input, const at::Tensor& row,
                    const std::string& prefix) {
  const std::string where = prefix + "input " + quoted_text(input.spec.name) + " ";
  const at::Tensor result = row.to(input.dtype);
  const at::Tensor given = row.to(at::kDouble);
  if (!at::isfinite(given).all().item<bool>()) {
    throw ConfigError(where + "must be finite");
  }
  if (at::isIntegralType(input.dtype, /*includeBool=*/true) &&
      !at::equal(result.to(at::kDouble), given)) {
    throw ConfigError(where + "must be whole numbers (" + detail::dtype_text(input.dtype) + ")");
  }
  if (!at::isfinite(result.to(at::kDouble)).all().item<bool>()) {
    throw ConfigError(where + "has numbers beyond " + detail::dtype_text(input.dtype));
  }
  return result;
}

class ProgramNetwork : public detail::Network {
 public:
  ProgramNetwork(detail::ProgramPtr program, ProgramSpec spec,
                 const std::vector<at::Tensor>& inputs, std::string prefix)
      : program_(std::move(program)),
        spec_(std::move(spec)),
        prefix_(std::move(prefix)),
        rows_(spec_.batch_size > 0 ? spec_.batch_size : detail::rows_at_once(spec_.event_shape)) {
    for (const at::Tensor& row : inputs) {
      std::vector<int64_t> shape = row.sizes().vec();
      shape.front() = rows_;
      inputs_.push_back(row.to(device()).expand(shape).contiguous());
    }
  }

  std::vector<int64_t> event_shape() const override { return spec_.event_shape; }
  std::vector<int64_t> output_shape() const override { return spec_.output_shape; }
  at::Device device() const override { return program_->device(); }

  at::Tensor forward(const at::Tensor& x, double time) const override {
    const at::NoGradGuard no_graph;
    const at::Tensor times = at::full({rows_}, time, x.options().dtype(at::kFloat));
    at::Tensor f = at::empty(detail::with_rows(x.size(0), output_shape()), x.options());
    detail::for_pieces(x, rows_, [&](int64_t first, int64_t rows, const at::Tensor& piece) {
      const auto results = detail::call_program(*program_, spec_, piece, times, inputs_, prefix_);
      f.narrow(0, first, rows).copy_(results[0].narrow(0, 0, rows));
    });
    return f;
  }

  EnergyPass energy(const at::Tensor& x, double time, bool residual) const override {
    return energy_by(x, time, detail::program_energy(spec_, residual));
  }

  EnergyPass energy_of_output(const at::Tensor& x, double time,
                              const detail::OutputFunction& g) const override {
    if (spec_.returns != ProgramReturns::output) {
      throw ConfigError(prefix_ + "returns an energy, and no output to take a function of");
    }
    return energy_by(x, time, [&g](const at::Tensor& result, const at::Tensor& /*x*/) {
      return g(result.to(at::kFloat));
    });
  }

 private:
  EnergyPass energy_by(const at::Tensor& x, double time,
                       const detail::ProgramEnergy& energy) const {
    const at::Tensor times = at::full({rows_}, time, x.options().dtype(at::kFloat));
    EnergyPass result = {.energy = at::empty({x.size(0)}, x.options().dtype(at::kDouble)),
                         .gradient = at::empty_like(x)};
    detail::for_pieces(x, rows_, [&](int64_t first, int64_t rows, const at::Tensor& piece) {
      const EnergyPass pass =
          detail::call_energy(*program_, spec_, piece, times, inputs_, energy, prefix_);
      result.energy.narrow(0, first, rows).copy_(pass.energy.narrow(0, 0, rows));
      result.gradient.narrow(0, first, rows).copy_(pass.gradient.narrow(0, 0, rows));
    });
    return result;
  }

  detail::ProgramPtr program_;
  ProgramSpec spec_;
  std::string prefix_;
  int64_t rows_;
  std::vector<at::Tensor> inputs_;
};

}  // namespace

namespace detail {

std::string to_string(ProgramReturns returns) { return word_of(kReturns, returns); }

ProgramPtr open_program(const std::string& path, ProgramKind kind, const at::Device& device,
                        const std::string& prefix) {
  if (kind == ProgramKind::torchscript) {
    return std::make_shared<TorchScript>(path, device, prefix);
  }
  return std::make_shared<AotInductor>(path, device, prefix);
}

std::vector<at::Tensor> call_program(const Program& program, const ProgramSpec& spec,
                                     const at::Tensor& x, const at::Tensor& times,
                                     const std::vector<at::Tensor>& inputs,
                                     const std::string& prefix) {
  // Copies: a program may write into its arguments, and these are the caller's.
  const auto copy = [](const at::Tensor& tensor) {
    return tensor.clone(at::MemoryFormat::Contiguous);
  };
  std::vector<at::Tensor> arguments = {copy(x.to(spec.dtype)), copy(times.to(spec.time_dtype))};
  std::transform(inputs.begin(), inputs.end(), std::back_inserter(arguments), copy);
  std::vector<at::Tensor> results = program.run(arguments);
  const size_t expected = spec.returns == ProgramReturns::energy_and_gradient ? 2 : 1;
  if (results.size() != expected) {
    throw DataError(prefix + "the program returned " + std::to_string(results.size()) +
                    " tensors, must return " + std::to_string(expected) + " (returns = \"" +
                    to_string(spec.returns) + "\")");
  }
  if (spec.returns == ProgramReturns::output) {
    check_result(results[0], "output", with_rows(x.size(0), spec.output_shape), prefix);
    return results;
  }
  check_result(results[0], "energy", {x.size(0)}, prefix);
  if (expected == 2) {
    check_result(results[1], "gradient", x.sizes(), prefix);
  }
  return results;
}

ProgramEnergy program_energy(const ProgramSpec& spec, bool residual) {
  if (spec.returns != ProgramReturns::output) {
    return [](const at::Tensor& result, const at::Tensor& /*x*/) { return result; };
  }
  return [residual](const at::Tensor& f, const at::Tensor& x) {
    return (residual ? f - x : f).to(at::kDouble).square().flatten(1).sum(1);
  };
}

EnergyPass call_energy(const Program& program, const ProgramSpec& spec, const at::Tensor& x,
                       const at::Tensor& times, const std::vector<at::Tensor>& inputs,
                       const ProgramEnergy& energy, const std::string& prefix) {
  if (spec.returns == ProgramReturns::energy_and_gradient) {
    const at::NoGradGuard no_graph;
    const auto results = call_program(program, spec, x, times, inputs, prefix);
    return {.energy = results[0].to(at::kDouble), .gradient = results[1].to(at::kFloat)};
  }
  if (program.kind() != ProgramKind::torchscript) {
    throw ConfigError(
        prefix + "no gradient passes through an AOTInductor package; export it as TorchScript");
  }
  const at::AutoGradMode with_graph(true);
  const at::Tensor leaf = x.detach().requires_grad_(true);
  const at::Tensor result = call_program(program, spec, leaf, times, inputs, prefix)[0];
  const at::Tensor value = energy(result, leaf).to(at::kDouble);
  if (!value.requires_grad()) {
    throw DataError(prefix +
                    "no gradient passes through the program; export it without no_grad and detach");
  }
  const at::Tensor gradient = without_traces(prefix + "the program's gradient failed: ", [&] {
    return torch::autograd::grad({value.sum()}, {leaf}, {}, {}, false, /*allow_unused=*/true)[0];
  });
  if (!gradient.defined()) {
    throw DataError(prefix + "what the program returns does not depend on x");
  }
  return {.energy = value.detach(), .gradient = gradient.detach().to(at::kFloat)};
}

std::vector<at::Tensor> program_inputs(const ProgramSpec& spec, const Inputs& given,
                                       const std::string& prefix) {
  std::vector<InputSpec> specs;
  for (const ProgramInput& input : spec.inputs) {
    specs.push_back(input.spec);
  }
  const Inputs checked = checked_inputs(specs, given, prefix);
  std::vector<at::Tensor> rows;
  for (const ProgramInput& input : spec.inputs) {
    rows.push_back(in_dtype(input, checked.at(input.spec.name), prefix));
  }
  return rows;
}

NetworkPtr program_network(ProgramPtr program, ProgramSpec spec, std::vector<at::Tensor> inputs,
                           std::string prefix) {
  return std::make_shared<ProgramNetwork>(std::move(program), std::move(spec), inputs,
                                          std::move(prefix));
}

}  // namespace detail
}  // namespace motet
