// A composition written twice, by operators and as text, of models of one's own.
#include "motet/expression.hpp"

#include <torch/types.h>

#include <iostream>

int main() {
  using namespace motet;
  const ModelPtr ring = motet::ring();
  const ModelPtr bar = motet::bar();
  const ModelPtr wide =
      gaussian_mixture(at::ones({1}), at::zeros({1, 2}), at::ones({1, 1}), "wide");

  // "ring or bar, but not near the middle of `wide`": a mixture divided by a tempered Gaussian.
  const ModelPtr either = 0.7 * ring + 0.3 * bar;
  const ModelPtr by_operators = either / pow(wide, 0.2);

  const std::string text = "(0.7 ring + 0.3 bar) / wide^0.2";
  const Resolver resolver = [&](const Expression& name) -> Named {
    if (name.text == "ring" || name.text == "bar") {
      return {.model = name.text == "ring" ? ring : bar, .likelihood = nullptr};
    }
    if (name.text == "wide") {
      return {.model = wide, .likelihood = nullptr};
    }
    throw std::invalid_argument(point_at(text, name.column, "must be ring, bar or wide"));
  };
  const Ramp ramp = ramp_over(NoiseSchedule::cosine(100));
  const ModelPtr by_text = build(parse_expression(text), text, resolver, {}, ramp);

  std::cout << describe_tree(by_text);
  const NoiseLevel level = NoiseSchedule::cosine(100).level(20);
  const Tensor x = at::linspace(-1.0, 1.0, 20, at::kDouble).reshape({10, 2});
  const Tensor a = by_operators->evaluate(x, level).score;
  const Tensor b = by_text->evaluate(x, level).score;
  return at::allclose(a, b) && leaves(by_text).size() == 3 ? 0 : 1;
}
