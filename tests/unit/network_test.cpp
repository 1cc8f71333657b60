// bound_network() and prediction_model(): what an output says of a law whose answer is known, rows'
// bits in any batch, energies, inputs and every message.
#include "nets/network.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "motet/error.hpp"
#include "nets/layers.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

using detail::Coordinates;
using detail::Inputs;
using detail::InputSpec;
using detail::OutputSpec;
using detail::Prediction;
using detail::ShapeMap;
using detail::TensorMap;

constexpr double kMean = 0.7;
constexpr double kVariance = 0.3;
const std::vector<double> kAlphaBars = {0.95, 0.6, 0.2, 0.01};

// What a perfect network would say of x_0 ~ N(kMean, kVariance), by the formulas of Gaussians:
// x_t ~ N(a m, a^2 k + s^2), E x_0 = m + a k (x - a m) / (a^2 k + s^2), E n = (x - a E x_0) / s.
class GaussianNetwork : public detail::Network {
 public:
  GaussianNetwork(Prediction prediction, Coordinates coordinates, bool has_variance)
      : prediction_(prediction), coordinates_(coordinates), has_variance_(has_variance) {}

  std::vector<int64_t> event_shape() const override { return {2, 3}; }
  std::vector<int64_t> output_shape() const override { return {has_variance_ ? 4 : 2, 3}; }
  at::Device device() const override { return at::kCPU; }

  at::Tensor forward(const at::Tensor& seen, double time) const override {
    const double a = std::sqrt(kAlphaBars.at(static_cast<size_t>(time / 10.0)));
    const double s = std::sqrt(1.0 - a * a);
    const bool is_exploding = coordinates_ == Coordinates::variance_exploding;
    const at::Tensor x = seen.to(at::kDouble) * (is_exploding ? a : 1.0);
    const double total = a * a * kVariance + s * s;
    const at::Tensor x_0 = kMean + a * kVariance * (x - a * kMean) / total;
    const at::Tensor noise = (x - a * x_0) / s;
    const at::Tensor score = (a * kMean - x) / total * (is_exploding ? a : 1.0);
    const at::Tensor f = prediction_ == Prediction::epsilon        ? noise
                         : prediction_ == Prediction::sample       ? x_0
                         : prediction_ == Prediction::v_prediction ? a * noise - s * x_0
                                                                   : score;
    const at::Tensor result = f.to(at::kFloat);
    return has_variance_ ? at::cat({result, at::full_like(result, 1e30)}, 1) : result;
  }

  // E with grad E = eps, as such energies are trained; log p = -E / s.
  detail::EnergyPass energy(const at::Tensor& seen, double time, bool) const override {
    const double a = std::sqrt(kAlphaBars.at(static_cast<size_t>(time / 10.0)));
    const double s = std::sqrt(1.0 - a * a);
    const double scale = coordinates_ == Coordinates::variance_exploding ? a : 1.0;
    const double total = a * a * kVariance + s * s;
    const at::Tensor away = seen.to(at::kDouble) * scale - a * kMean;
    return {.energy = s * away.square().flatten(1).sum(1) / (2.0 * total),
            .gradient = (s * away / total * scale).to(at::kFloat)};
  }

 private:
  Prediction prediction_;
  Coordinates coordinates_;
  bool has_variance_;
};

OutputSpec spec_of(Prediction prediction, Coordinates coordinates) {
  return {.prediction = prediction,
          .coordinates = coordinates,
          .schedule = NoiseSchedule::from_alpha_bars(kAlphaBars),
          .times = {0.0, 10.0, 20.0, 30.0}};
}

ModelPtr gaussian_model(Prediction prediction, Coordinates coordinates, bool has_variance = false) {
  return prediction_model(std::make_shared<GaussianNetwork>(prediction, coordinates, has_variance),
                          spec_of(prediction, coordinates), "gaussian");
}

at::Tensor points(int64_t rows) {
  return at::linspace(-2.0, 2.5, rows * 6, at::kDouble).sin().view({rows, 2, 3}).to(at::kFloat) *
         2.0;
}

at::Tensor exact_score(const at::Tensor& x, const NoiseLevel& level) {
  const double a = std::sqrt(level.alpha_bar);
  return (a * kMean - x.to(at::kDouble)) / (level.alpha_bar * kVariance + 1.0 - level.alpha_bar);
}

double gap(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

TEST(PredictionModel, EveryPredictionInBothCoordinatesGivesTheExactScore) {
  for (const Prediction prediction :
       {Prediction::epsilon, Prediction::sample, Prediction::v_prediction, Prediction::score}) {
    for (const Coordinates coordinates :
         {Coordinates::variance_preserving, Coordinates::variance_exploding}) {
      const ModelPtr model = gaussian_model(prediction, coordinates);
      for (int64_t index = 0; index < 4; ++index) {
        const NoiseLevel level = model->schedule()->level(index);
        const Eval eval = model->evaluate(points(5), level);
        // x_0 is divided by sigma^2 = 0.05 at level 0: float32's error there is that much larger
        EXPECT_LT(gap(eval.score, exact_score(points(5), level)), 2e-5)
            << to_string(prediction) << index;
        EXPECT_TRUE(eval.remainder.is_same(eval.score));
        EXPECT_FALSE(eval.log_density.defined());
      }
    }
  }
}

TEST(PredictionModel, EnergiesAreExactInBothCoordinates) {
  for (const Coordinates coordinates :
       {Coordinates::variance_preserving, Coordinates::variance_exploding}) {
    const ModelPtr model = gaussian_model(Prediction::energy_norm, coordinates);
    EXPECT_TRUE(model->is_exact());
    for (int64_t index = 0; index < 4; ++index) {
      const NoiseLevel level = model->schedule()->level(index);
      const Eval eval = model->evaluate(points(5), level);
      EXPECT_LT(gap(eval.score, exact_score(points(5), level)), 2e-6);
      const double total = level.alpha_bar * kVariance + 1.0 - level.alpha_bar;
      const at::Tensor away = points(5).to(at::kDouble) - std::sqrt(level.alpha_bar) * kMean;
      const at::Tensor log_density = away.square().flatten(1).sum(1) / (-2.0 * total);
      EXPECT_LT(gap(eval.log_density, log_density), 1e-5);
      EXPECT_FALSE(eval.remainder.defined());
    }
  }
}

TEST(PredictionModel, ALearnedVarianceIsLeftOut) {
  const ModelPtr with = gaussian_model(Prediction::epsilon, Coordinates::variance_preserving, true);
  const ModelPtr without = gaussian_model(Prediction::epsilon, Coordinates::variance_preserving);
  const NoiseLevel level = with->schedule()->level(1);
  EXPECT_TRUE(
      at::equal(with->evaluate(points(3), level).score, without->evaluate(points(3), level).score));
}

TEST(PredictionModel, TakesFloat64AndLeavesItsPointsAlone) {
  const ModelPtr model = gaussian_model(Prediction::epsilon, Coordinates::variance_exploding);
  const at::Tensor x = points(3).to(at::kDouble);
  const at::Tensor before = x.clone();
  EXPECT_EQ(model->evaluate(x, model->schedule()->level(2)).score.scalar_type(), at::kDouble);
  EXPECT_TRUE(at::equal(x, before));
}

TEST(PredictionModel, RefusesWhatDoesNotFit) {
  const auto network = [](Prediction prediction, bool has_variance) {
    return std::make_shared<GaussianNetwork>(prediction, Coordinates::variance_preserving,
                                             has_variance);
  };
  OutputSpec short_times = spec_of(Prediction::epsilon, Coordinates::variance_preserving);
  short_times.times.pop_back();
  EXPECT_THROW_MSG(prediction_model(network(Prediction::epsilon, false), short_times, "net"),
                   ConfigError, "network: \"net\": 3 times for 4 levels, must be one each");
  EXPECT_THROW_MSG(
      prediction_model(network(Prediction::energy_norm, true),
                       spec_of(Prediction::energy_norm, Coordinates::variance_preserving), "net"),
      ConfigError,
      "network: \"net\": its output of shape (4, 3) is no score of points of shape (2, 3); must be "
      "as the points, or of twice the channels where a variance is learned");
  const ModelPtr model = gaussian_model(Prediction::epsilon, Coordinates::variance_preserving);
  EXPECT_THROW_MSG(model->evaluate(points(1), {.index = 4, .alpha_bar = 0.5}), ConfigError,
                   "network: \"gaussian\" was trained on levels 0 to 3, but is asked for level 4; "
                   "sample on the model's own schedule");
  EXPECT_THROW_MSG(detail::prediction_from("noise"), ConfigError,
                   "prediction = \"noise\" is not known; allowed: epsilon, sample, v_prediction, "
                   "score, energy_norm, energy_residual, energy");
}

// f = conv(x) + class + bias time: small, but with all that a network of images has.
class ToyArchitecture : public detail::Architecture {
 public:
  ShapeMap expected_tensors() const override {
    ShapeMap shapes;
    detail::add_conv(shapes, "first", 2, 8, 3);
    detail::add_conv(shapes, "last", 8, 2, 3);
    shapes["class.weight"] = {4, 8};
    return shapes;
  }
  std::vector<int64_t> event_shape() const override { return {2, 6, 5}; }
  std::vector<int64_t> output_shape() const override { return {2, 6, 5}; }
  std::vector<InputSpec> inputs() const override {
    return {{.name = "label", .num_values = 4},
            {.name = "shift", .shape = {8}, .is_required = false}};
  }
  std::string describe() const override { return "toy"; }
  at::Tensor forward(const TensorMap& tensors, const at::Tensor& x, const at::Tensor& time,
                     const Inputs& inputs) const override {
    at::Tensor added = at::embedding(tensors.at("class.weight"), inputs.at("label"));
    added = inputs.contains("shift") ? added + inputs.at("shift") : added;
    added = added + time.to(x.scalar_type()).unsqueeze(1) * 0.01;
    const at::Tensor h = detail::conv2d(tensors, "first", x, 1, 1);
    return detail::conv2d(tensors, "last", at::silu(h + added.unsqueeze(-1).unsqueeze(-1)), 1, 1);
  }
};

TensorMap toy_tensors() {
  TensorMap tensors;
  int64_t phase = 0;
  for (const auto& [name, shape] : ToyArchitecture().expected_tensors()) {
    const at::Tensor i = at::arange(c10::multiply_integers(shape), at::kDouble);
    tensors[name] =
        ((static_cast<double>(++phase) + 0.618 * i * i).cos() * 0.3).view(shape).to(at::kFloat);
  }
  return tensors;
}

Inputs toy_inputs() { return {{"label", at::scalar_tensor(2.0)}}; }

detail::NetworkPtr toy(Compute compute = Compute::float32, const Inputs& inputs = toy_inputs(),
                       const TensorMap& tensors = toy_tensors()) {
  return detail::bound_network(std::make_shared<ToyArchitecture>(), tensors, inputs, compute, "cpu",
                               "toy: ");
}

at::Tensor toy_images(int64_t rows) {
  const at::Tensor i = at::arange(rows * 60, at::kDouble);
  return (0.618 * i * i).cos().view({rows, 2, 6, 5}).to(at::kFloat) * 1.5;
}

TEST(BoundNetwork, ARowsBitsDoNotDependOnTheBatch) {
  const at::Tensor x = toy_images(100);
  for (const Compute compute : {Compute::reference, Compute::float32, Compute::bfloat16}) {
    const detail::NetworkPtr network = toy(compute);
    const at::Tensor all = network->forward(x, 3.0);
    const detail::EnergyPass energy = network->energy(x, 3.0, true);
    for (const int64_t rows : {1, 7, 64, 65}) {
      EXPECT_TRUE(at::equal(network->forward(x.narrow(0, 0, rows), 3.0), all.narrow(0, 0, rows)));
    }
    EXPECT_TRUE(at::equal(network->forward(x.narrow(0, 93, 7), 3.0), all.narrow(0, 93, 7)));
    const detail::EnergyPass part = network->energy(x.narrow(0, 93, 7), 3.0, true);
    EXPECT_TRUE(at::equal(part.energy, energy.energy.narrow(0, 93, 7)));
    EXPECT_TRUE(at::equal(part.gradient, energy.gradient.narrow(0, 93, 7)));
  }
}

TEST(BoundNetwork, AgreesWithItsArchitecture) {
  const at::NoGradGuard no_graph;
  const at::Tensor x = toy_images(7);
  const at::Tensor f = ToyArchitecture().forward(toy_tensors(), x, at::full({1}, 3.0),
                                                 {{"label", at::tensor(std::vector<int64_t>{2})}});
  EXPECT_LT(gap(toy(Compute::reference)->forward(x, 3.0), f), 1e-6);
  EXPECT_LT(gap(toy(Compute::float32)->forward(x, 3.0), f), 1e-6);
  const double size = f.abs().max().item<double>();
  EXPECT_LT(gap(toy(Compute::bfloat16)->forward(x, 3.0), f), 0.03 * size);
  EXPECT_GT(gap(toy(Compute::bfloat16)->forward(x, 3.0), f), 0.0);
}

TEST(BoundNetwork, GradientsAreFiniteDifferencesOfEnergies) {
  const detail::NetworkPtr network = toy();
  const at::Tensor x = toy_images(1);
  for (const bool residual : {false, true}) {
    const at::Tensor gradient = network->energy(x, 3.0, residual).gradient.flatten();
    for (const int64_t i : {0, 13, 59}) {
      constexpr float kStep = 1e-2F;
      at::Tensor shift = at::zeros({60});
      shift[i] = kStep;
      const at::Tensor up = network->energy(x + shift.view_as(x), 3.0, residual).energy;
      const at::Tensor down = network->energy(x - shift.view_as(x), 3.0, residual).energy;
      const double slope = (up - down).item<double>() / (2.0 * static_cast<double>(kStep));
      EXPECT_NEAR(gradient[i].item<double>(), slope, 2e-3 * (1.0 + std::abs(slope)));
    }
  }
}

// The toy, which remembers the memory that its graphs hold and counts how much of it is still there
// when the next pass begins.
class WatchedArchitecture : public ToyArchitecture {
 public:
  at::Tensor forward(const TensorMap& tensors, const at::Tensor& x, const at::Tensor& time,
                     const Inputs& inputs) const override {
    most_alive = std::max(most_alive, num_alive());
    const at::Tensor saved = x * 2.0;
    seen.push_back(saved.storage().getWeakStorageImpl());
    return ToyArchitecture::forward(tensors, at::sin(saved), time, inputs);
  }
  int64_t num_alive() const {
    return std::count_if(seen.begin(), seen.end(), [](auto& one) { return !one.expired(); });
  }

  mutable std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>> seen;
  mutable int64_t most_alive = 0;
};

TEST(BoundNetwork, GraphsOfGradientsLastForOnePiece) {
  const auto watched = std::make_shared<WatchedArchitecture>();
  const detail::NetworkPtr network =
      detail::bound_network(watched, toy_tensors(), toy_inputs(), Compute::float32, "cpu", "toy: ");
  const auto first = [](const at::Tensor& f) {
    return at::log_softmax(f.flatten(1).to(at::kDouble), 1).select(1, 0);
  };
  for (const detail::EnergyPass& pass : {network->energy(toy_images(200), 3.0, true),
                                         network->energy_of_output(toy_images(200), 3.0, first)}) {
    EXPECT_FALSE(pass.energy.requires_grad());
    EXPECT_FALSE(pass.gradient.requires_grad());
  }
  EXPECT_EQ(watched->seen.size(), 8);  // pieces of 64 rows, twice
  EXPECT_EQ(watched->most_alive, 0);
  EXPECT_EQ(watched->num_alive(), 0);
}

TEST(BoundNetwork, InputsAreNumbersOrRows) {
  const at::Tensor x = toy_images(2);
  const at::Tensor f = toy()->forward(x, 3.0);
  EXPECT_TRUE(at::equal(toy(Compute::float32, {{"label", at::full({1}, 2)}})->forward(x, 3.0), f));
  EXPECT_FALSE(
      at::equal(toy(Compute::float32, {{"label", at::scalar_tensor(1)}})->forward(x, 3.0), f));
  Inputs with_shift = toy_inputs();
  with_shift["shift"] = at::zeros({8});
  EXPECT_TRUE(at::equal(toy(Compute::float32, with_shift)->forward(x, 3.0), f));
  with_shift["shift"] = at::ones({1, 8});
  EXPECT_FALSE(at::equal(toy(Compute::float32, with_shift)->forward(x, 3.0), f));
}

TEST(BoundNetwork, RefusesInputsThatDoNotFit) {
  const auto with = [](const std::string& name, const at::Tensor& value) {
    Inputs inputs = toy_inputs();
    inputs[name] = value;
    return inputs;
  };
  EXPECT_THROW_MSG(toy(Compute::float32, Inputs{}), ConfigError,
                   "toy: input \"label\" is missing; the network needs one of shape (), a class "
                   "from 0 to 3");
  for (const double bad : {4.0, -1.0, 0.5, std::nan("")}) {
    EXPECT_THROW_MSG(toy(Compute::float32, with("label", at::scalar_tensor(bad))), ConfigError,
                     "toy: input \"label\" is not a class of this network; must be a whole number "
                     "from 0 to 3");
  }
  EXPECT_THROW_MSG(toy(Compute::float32, with("shift", at::zeros({7}))), ConfigError,
                   "toy: input \"shift\" has shape (7), must be (8)");
  EXPECT_THROW_MSG(toy(Compute::float32, with("shft", at::zeros({8}))), ConfigError,
                   "toy: input \"shft\" is not known; did you mean \"shift\"?");
  EXPECT_THROW_MSG(toy(Compute::float32, with("embedding", at::zeros({8}))), ConfigError,
                   "toy: input \"embedding\" is not known; the network has \"label\"");
}

TEST(BoundNetwork, RefusesTensorsThatDoNotFit) {
  TensorMap tensors = toy_tensors();
  tensors.erase("last.bias");
  EXPECT_THROW_MSG(toy(Compute::float32, toy_inputs(), tensors), DataError,
                   "toy: tensor \"last.bias\" of shape (2) is missing; the tensors are of another "
                   "architecture or another size");
  EXPECT_THROW_MSG(detail::bound_network(std::make_shared<ToyArchitecture>(), toy_tensors(),
                                         toy_inputs(), Compute::float32, "tpu", "toy: "),
                   ConfigError, "network: device = \"tpu\" is not known; allowed: cpu, cuda");
}

TEST(BoundNetwork, PiecesAreBoundedByTheirNumbers) {
  EXPECT_EQ(detail::rows_at_once({3, 32, 32}), 64);
  EXPECT_EQ(detail::rows_at_once({3, 256, 256}), 1);
  EXPECT_EQ(detail::rows_at_once({3, 64, 64}), 21);
}

}  // namespace
}  // namespace motet
