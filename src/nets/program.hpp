// Exported programs (TorchScript, AOTInductor packages) as networks: how one is called, what it
// returns, and a Network over it. What files say of a program is read in
// pretrained_program_file.cpp.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "nets/network.hpp"

namespace motet::detail {

enum class ProgramKind {
  torchscript,   ///< gradients pass through it
  aot_inductor,  ///< compiled: values only
};

/// What a program returns.
enum class ProgramReturns {
  output,               ///< f (B, *output_shape)
  energy,               ///< E (B); its gradient by autograd
  energy_and_gradient,  ///< E (B) and grad_x E (B, *event_shape)
};
std::string to_string(ProgramReturns returns);

/// An input beside x and the time, and the dtype that the program takes it in.
struct ProgramInput {
  InputSpec spec;
  at::ScalarType dtype = at::kFloat;
};

/// How a program is called: program(x, time, *inputs), all with the batch in front.
struct ProgramSpec {
  std::vector<int64_t> event_shape;
  std::vector<int64_t> output_shape;       ///< of f; of an energy the event's
  std::vector<ProgramInput> inputs;        ///< in the order of the arguments
  at::ScalarType dtype = at::kFloat;       ///< of x and of what is returned
  at::ScalarType time_dtype = at::kFloat;  ///< float32, or int64: whole numbers
  int64_t batch_size = 0;                  ///< rows that it was compiled for; 0: any
  ProgramReturns returns = ProgramReturns::output;
};

/// A program in memory, on one device. Safe to call from one thread at a time.
class Program {
 public:
  virtual ~Program() = default;
  /// What it returns; a graph through it only where is_differentiable(). Throws DataError with the
  /// program's own words where it fails.
  virtual std::vector<at::Tensor> run(const std::vector<at::Tensor>& arguments) const = 0;
  virtual ProgramKind kind() const = 0;
  virtual at::Device device() const = 0;
  /// How many arguments it takes.
  virtual int64_t num_arguments() const = 0;
};
using ProgramPtr = std::shared_ptr<const Program>;

/// Loads a program, which may run code of its maker's. A TorchScript file goes to any device; a
/// package runs on the one that it was compiled for, and is unpacked into the system's temporary
/// folder while it lives. `prefix` opens the messages, now and in run(). Throws DataError for a
/// file that torch cannot load.
ProgramPtr open_program(const std::string& path, ProgramKind kind, const at::Device& device,
                        const std::string& prefix);

/// One call: x (rows, *event_shape) of any float dtype, times (rows) float32, `inputs` in the
/// spec's order, (rows, *shape) and of the dtypes there. Returns the tensors that spec.returns
/// names, in the program's dtype, with a graph where grad mode is on. Throws DataError for results
/// of another number, shape or kind; `prefix` opens the message.
std::vector<at::Tensor> call_program(const Program& program, const ProgramSpec& spec,
                                     const at::Tensor& x, const at::Tensor& times,
                                     const std::vector<at::Tensor>& inputs,
                                     const std::string& prefix);

/// E (B) from what a program returns and x, by plain torch operations.
using ProgramEnergy = std::function<at::Tensor(const at::Tensor& result, const at::Tensor& x)>;
/// E (B) float64 and its gradient (B, *event) float32, of one such call: those that it returns
/// itself, or `energy` of its output and autograd. Throws ConfigError where no gradient passes
/// through it.
EnergyPass call_energy(const Program& program, const ProgramSpec& spec, const at::Tensor& x,
                       const at::Tensor& times, const std::vector<at::Tensor>& inputs,
                       const ProgramEnergy& energy, const std::string& prefix);
/// ||f - x||^2 where `residual`, else ||f||^2; a program's own energy as it is.
ProgramEnergy program_energy(const ProgramSpec& spec, bool residual);

/// The inputs of a program as rows (1, *shape) in the spec's order and dtypes. Throws ConfigError
/// as checked_inputs(), and for numbers that are not finite or that a whole-number dtype does not
/// hold.
std::vector<at::Tensor> program_inputs(const ProgramSpec& spec, const Inputs& given,
                                       const std::string& prefix);

/// The program as a network: pieces of spec.batch_size rows, or of rows_at_once(). `inputs` are
/// those of program_inputs(). Throws DataError for a program of another number of arguments.
NetworkPtr program_network(ProgramPtr program, ProgramSpec spec, std::vector<at::Tensor> inputs,
                           std::string prefix);

}  // namespace motet::detail
