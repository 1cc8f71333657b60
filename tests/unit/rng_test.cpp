// Claims of rng.hpp: numbers are a pure function of their position.
#include "motet/rng.hpp"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <set>

#include "motet/error.hpp"
#include "philox.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

Tensor rows(int64_t num_chains, int64_t d, at::ScalarType dtype = at::kDouble) {
  return at::empty({num_chains, d}, dtype);
}

// Known answers for philox4x32-10 distributed with Random123 (kat_vectors): counter, key, result.
TEST(Philox, GivesRandom123KnownAnswers) {
  using detail::philox;
  using detail::PhiloxBlock;
  EXPECT_EQ(philox(0, {0, 0, 0, 0}), (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox(~uint64_t{0}, {~0U, ~0U, ~0U, ~0U}),
            (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox(0x299f31d0a4093822U, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, TensorOperationsGiveTheSameIntegers) {
  const detail::DrawPosition position{.seed = 0xFEDCBA9876543210U,
                                      .level = (1 << 20) - 1,
                                      .step = (int64_t{1} << 32) - 2,
                                      .draw = (1 << 20) - 3};
  const int64_t first_chain = (int64_t{1} << 32) - 7;
  const Tensor words = detail::philox_tensor(position, first_chain, 7, 5, at::kCPU);
  for (int64_t chain = 0; chain < 7; ++chain) {
    for (int64_t block = 0; block < 5; ++block) {
      const detail::PhiloxBlock expected = detail::philox_at(
          position, static_cast<uint32_t>(first_chain + chain), static_cast<uint32_t>(block));
      for (int64_t word = 0; word < 4; ++word) {
        EXPECT_EQ(words[word][chain][block].item<int64_t>(),
                  int64_t{expected[static_cast<size_t>(word)]});
      }
    }
  }
}

TEST(Rng, TensorPathGivesTheSameUniformsAndNormalsToRounding) {
  const detail::DrawPosition position{.seed = 5, .level = 3, .step = 11, .draw = 0};
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const Tensor like = rows(40, 5, dtype);
    const Tensor uniform = detail::uniform_tensor(position, 9, 40, 5, dtype, at::kCPU);
    EXPECT_TRUE(at::equal(uniform, Rng(5, 9).at(3, 11).uniform_like(like)));
    const Tensor normal = detail::normal_tensor(position, 9, 40, 5, dtype, at::kCPU);
    EXPECT_TRUE(at::allclose(normal, Rng(5, 9).at(3, 11).normal_like(like), 0.0,
                             dtype == at::kFloat ? 1e-6 : 1e-13));
  }
}

TEST(Philox, EveryFieldOfAPositionChangesTheCounter) {
  const std::vector<detail::DrawPosition> positions = {
      {.seed = 1, .level = 0, .step = 0, .draw = 0},
      {.seed = 1, .level = 1, .step = 0, .draw = 0},
      {.seed = 1, .level = 1 << 19, .step = 0, .draw = 0},
      {.seed = 1, .level = 0, .step = 1, .draw = 0},
      {.seed = 1, .level = 0, .step = int64_t{1} << 31, .draw = 0},
      {.seed = 1, .level = 0, .step = 0, .draw = 1},
      {.seed = 1, .level = 0, .step = 0, .draw = 1 << 11},
      {.seed = 1, .level = 0, .step = 0, .draw = 1 << 12},
      {.seed = 1, .level = 0, .step = 0, .draw = 1 << 19},
      {.seed = uint64_t{1} << 32, .level = 0, .step = 0, .draw = 0}};
  std::set<detail::PhiloxBlock> blocks;
  for (const auto& position : positions) {
    for (const uint32_t chain : {0U, 1U, 1U << 31}) {
      for (const uint32_t block : {0U, 1U, 1U << 23}) {
        blocks.insert(detail::philox_at(position, chain, block));
      }
    }
  }
  EXPECT_EQ(blocks.size(), positions.size() * 9);
}

TEST(Rng, SameBitsForAnyBatchSplit) {
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const Tensor whole = Rng(7).at(4, 2).normal_like(rows(100, 3, dtype));
    for (const int64_t cut : {1, 33, 99}) {
      const Rng rng = Rng(7).at(4, 2);
      const Tensor front = rng.for_chains(0).normal_like(rows(cut, 3, dtype));
      const Tensor back = rng.for_chains(cut).normal_like(rows(100 - cut, 3, dtype));
      EXPECT_TRUE(at::equal(whole, at::cat({front, back})));
    }
  }
}

TEST(Rng, SameBitsForAnyOrderOfPositions) {
  const Rng rng(3);
  Rng late = rng.at(5, 9);
  const Tensor expected = late.normal_like(rows(10, 2));
  Rng wandering = rng.at(9, 1);
  wandering.uniform(10, expected);
  wandering.normal_like(expected);
  Rng back = wandering.at(5, 9);
  EXPECT_TRUE(at::equal(back.normal_like(expected), expected));
}

TEST(Rng, SameBitsForAnyThreadCount) {
  const int threads = at::get_num_threads();
  const Tensor several = Rng(3).normal_like(rows(20000, 2));
  at::set_num_threads(1);
  const Tensor one = Rng(3).normal_like(rows(20000, 2));
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(several, one));
}

TEST(Rng, CoordinatesDoNotDependOnTheEventShape) {
  const Tensor wide = Rng(1).normal_like(at::empty({6, 2, 3, 4}, at::kDouble));
  EXPECT_EQ(wide.sizes(), at::IntArrayRef({6, 2, 3, 4}));
  EXPECT_TRUE(at::equal(wide.view({6, 24}), Rng(1).normal_like(rows(6, 24))));
  EXPECT_TRUE(at::equal(wide.view({6, 24}).narrow(1, 0, 5), Rng(1).normal_like(rows(6, 5))));
}

TEST(Rng, Float32NormalsAreTheRoundedFloat64Ones) {
  const Tensor exact = Rng(1).normal_like(rows(50, 3));
  EXPECT_TRUE(at::equal(Rng(1).normal_like(rows(50, 3, at::kFloat)), exact.to(at::kFloat)));
}

TEST(Rng, OneDrawAChainEqualsTheFirstCoordinate) {
  Rng rng = Rng(8, 21);
  const Tensor one = rng.uniform(30, rows(30, 4, at::kFloat));
  EXPECT_EQ(one.scalar_type(), at::kDouble);
  EXPECT_TRUE(at::equal(one, Rng(8, 21).uniform_like(rows(30, 1)).squeeze(1)));
}

TEST(Rng, DrawsDifferBySeedChainLevelStepDrawAndPurpose) {
  const Tensor like = rows(1, 1);
  Rng twice(1);
  twice.normal_like(like);
  std::vector<Rng> positions = {Rng(1),
                                Rng(2),
                                Rng(1, 1),
                                Rng(1).at(1, 0),
                                Rng(1).at(0, 1),
                                twice,
                                Rng(1).split(""),
                                Rng(1).split("init"),
                                Rng(1).split("data"),
                                Rng(1).split("data").split("init")};
  std::set<double> values;
  for (Rng& rng : positions) {
    values.insert(rng.normal_like(like).item<double>());
  }
  EXPECT_EQ(values.size(), positions.size());
}

TEST(Rng, SplitKeepsThePositionAndIsAFunctionOfThePurpose) {
  const Tensor like = rows(4, 2);
  Rng first = Rng(1, 5).at(2, 3).split("init");
  Rng second = Rng(1, 5).split("init").at(2, 3);
  EXPECT_TRUE(at::equal(first.normal_like(like), second.normal_like(like)));
  EXPECT_EQ(first.first_chain(), 5);
}

TEST(Rng, CopyContinuesIndependently) {
  Rng rng(1);
  Rng copy = rng;
  const Tensor first = rng.normal_like(rows(3, 2));
  EXPECT_TRUE(at::equal(copy.normal_like(first), first));
}

// |z| < 4.5 on four moments of 200,000 numbers; fixed seed.
void expect_moments(const Tensor& sample, const std::vector<double>& moments) {
  const Tensor x = sample.to(at::kDouble).flatten();
  const auto n = static_cast<double>(x.numel());
  for (size_t k = 1; k <= 4; ++k) {
    const Tensor power = x.pow(static_cast<double>(k));
    const double error = power.std().item<double>() / std::sqrt(n);
    EXPECT_LT(std::abs(power.mean().item<double>() - moments[k - 1]), 4.5 * error)
        << "moment " << k;
  }
}

TEST(Rng, NormalsHaveNormalMoments) {
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    for (const int64_t d : {1, 2, 50}) {
      expect_moments(Rng(17).normal_like(rows(200000 / d, d, dtype)), {0.0, 1.0, 0.0, 3.0});
    }
  }
}

TEST(Rng, UniformsHaveUniformMomentsAndAreOpen) {
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const Tensor u = Rng(23).uniform_like(rows(200000, 1, dtype));
    expect_moments(u, {1.0 / 2.0, 1.0 / 3.0, 1.0 / 4.0, 1.0 / 5.0});
    EXPECT_GT(u.min().item<double>(), 0.0);
    EXPECT_LT(u.max().item<double>(), 1.0);
  }
}

TEST(Rng, NeighbouringStreamsAreUncorrelated) {
  const Tensor like = rows(100000, 2);
  const Tensor base = Rng(1).at(1, 1).normal_like(like);
  Rng second_draw = Rng(1).at(1, 1);
  second_draw.normal_like(like);
  std::vector<Tensor> others = {Rng(2).at(1, 1).normal_like(like),
                                Rng(1, 1).at(1, 1).normal_like(like),
                                Rng(1).at(2, 1).normal_like(like),
                                Rng(1).at(1, 2).normal_like(like),
                                second_draw.normal_like(like),
                                Rng(1).split("init").at(1, 1).normal_like(like),
                                base.flip(1)};
  for (const Tensor& other : others) {
    const double z = (base * other).select(1, 0).sum().item<double>() / std::sqrt(100000.0);
    EXPECT_LT(std::abs(z), 4.5);
  }
}

TEST(Rng, AnEmptyBatchIsEmpty) {
  Rng rng(1);
  EXPECT_EQ(rng.normal_like(rows(0, 3)).sizes(), at::IntArrayRef({0, 3}));
  EXPECT_EQ(rng.uniform(0, rows(0, 3)).numel(), 0);
  EXPECT_EQ(rng.uniform_like(rows(0, 3)).numel(), 0);
}

TEST(Rng, RefusesPositionsOutsideItsBits) {
  EXPECT_THROW_MSG(Rng(1, -1), ConfigError, "rng: first_chain = -1, must be in 0 .. 4294967295");
  EXPECT_THROW_MSG(Rng(1).for_chains(int64_t{1} << 32), ConfigError,
                   "rng: first_chain = 4294967296, must be in 0 .. 4294967295");
  EXPECT_THROW_MSG(Rng(1).at(-1, 0), ConfigError, "rng: level = -1, must be in 0 .. 1048575");
  EXPECT_THROW_MSG(Rng(1).at(1 << 20, 0), ConfigError,
                   "rng: level = 1048576, must be in 0 .. 1048575");
  EXPECT_THROW_MSG(Rng(1).at(0, int64_t{1} << 32), ConfigError,
                   "rng: step = 4294967296, must be in 0 .. 4294967295");
  EXPECT_THROW_MSG(Rng(1, (int64_t{1} << 32) - 2).normal_like(rows(3, 1)), ConfigError,
                   "rng: last chain = 4294967296, must be in 0 .. 4294967295");
  EXPECT_THROW_MSG(Rng(1).uniform(-1, rows(1, 1)), ConfigError,
                   "rng: num_chains = -1, must be in 0 .. 4294967295");
}

TEST(Rng, RefusesMoreDrawsThanAPositionHas) {
  Rng rng(1);
  const Tensor like = rows(0, 1);
  for (int64_t i = 0; i < 1 << 20; ++i) {
    rng.normal_like(like);
  }
  EXPECT_THROW_MSG(rng.normal_like(like), ConfigError,
                   "rng: draw = 1048576, must be in 0 .. 1048575; move on with at(level, step)");
}

TEST(Rng, RefusesTensorsThatAreNoBatchOfFloats) {
  EXPECT_THROW_MSG(Rng(1).normal_like(at::empty({}, at::kDouble)), ShapeError,
                   "rng: like has no batch dimension, must be (B, *event)");
  EXPECT_THROW_MSG(Rng(1).uniform_like(rows(2, 2, at::kLong)), ShapeError,
                   "rng: like has dtype Long, must be Float or Double");
}

}  // namespace
}  // namespace motet
